"""Admission: who may come in, how many at once, and that every place is given back."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from scp.admission import Admission, Applicant, RejectionKind
from scp.patterns import AddressPatterns, AePatterns, address_pattern, ae_pattern
from scp.settings import ScpSettings

SENDER = Applicant("SENDER", "PREREAD", "192.0.2.7")

titles = st.text(st.sampled_from("AB[]-! *?a"), min_size=1, max_size=16).filter(str.strip)
patterns = st.text(st.sampled_from("AB[]-!*?a"), min_size=1, max_size=8)


def admission(has_room: bool = True, **settings: Any) -> Admission:
    return Admission(ScpSettings(**settings), lambda: has_room)


def answer(rejection: Any) -> tuple[int, int, int]:
    return rejection.result, rejection.source, rejection.reason


# Who may come in ---------------------------------------------------------------------------------


def test_by_default_everybody_may_come_in() -> None:
    door = admission()
    assert door.decide(1, Applicant("ANY", "THING", "2001:db8::1")) is None
    assert door.allows_address("203.0.113.9")
    assert door.n_open == 1


@pytest.mark.parametrize(
    ("settings", "applicant", "expected", "setting"),
    [
        ({"calling_ae_allow": ("CT*",)}, SENDER, (1, 1, 3), "scp.calling_ae_allow"),
        ({"called_ae_allow": ("OTHER",)}, SENDER, (1, 1, 7), "scp.called_ae_allow"),
        ({"address_allow": ("198.51.100.0/24",)}, SENDER, (1, 1, 1), "scp.address_allow"),
    ],
)
def test_who_is_not_listed_is_rejected_for_good(
    settings: Any, applicant: Applicant, expected: tuple[int, int, int], setting: str
) -> None:
    door = admission(**settings)
    rejection = door.decide(1, applicant)
    assert rejection is not None
    assert answer(rejection) == expected
    assert setting in rejection.why
    assert door.n_open == 0


def test_nothing_of_the_peer_stands_in_the_reason() -> None:
    rejection = admission(calling_ae_allow=("CT",)).decide(1, SENDER)
    assert rejection is not None
    assert "SENDER" not in rejection.why


def test_what_lasts_is_said_before_what_passes() -> None:
    door = admission(has_room=False, calling_ae_allow=("CT",), max_associations=1)
    rejection = door.decide(1, SENDER)
    assert rejection is not None
    assert rejection.kind is RejectionKind.CALLING_AE


def test_spaces_around_ae_titles_do_not_count_and_case_does() -> None:
    door = admission(calling_ae_allow=(" CT 1 ",), called_ae_allow=("PREREAD",))
    assert door.decide(1, Applicant("CT 1            ", " PREREAD", "192.0.2.7")) is None
    assert door.decide(2, Applicant("ct 1", "PREREAD", "192.0.2.7")) is not None
    assert door.decide(3, Applicant("CT 1", "preread", "192.0.2.7")) is not None


def test_closed_asks_for_every_list() -> None:
    with pytest.raises(ValidationError, match="called_ae_allow, address_allow empty"):
        ScpSettings(access="closed", calling_ae_allow=("CT",))
    with pytest.raises(ValidationError, match="nobody could come in"):
        ScpSettings(access="closed")
    door = admission(
        access="closed", calling_ae_allow=("CT",), called_ae_allow=("*",), address_allow=("*",)
    )
    assert door.decide(1, Applicant("CT", "ANY", "2001:db8::1")) is None
    assert door.decide(2, Applicant("MR", "ANY", "2001:db8::1")) is not None


# Patterns ----------------------------------------------------------------------------------------


@given(patterns, titles)
def test_wildcards_match_what_fnmatch_does_and_brackets_themselves(
    pattern: str, title: str
) -> None:
    literal = pattern.replace("[", "[[]")
    assert AePatterns([pattern]).match(title) == fnmatchcase(title.strip(), literal)


@given(titles)
def test_a_title_matches_itself(title: str) -> None:
    assert AePatterns([ae_pattern(title)]).match(f" {title} ")


@pytest.mark.parametrize("text", ["", "  ", "A\\B", "A\nB", "SEVENTEEN LETTERS", "É"])
def test_patterns_that_no_ae_title_can_match_are_refused(text: str) -> None:
    with pytest.raises(ValidationError, match=r"calling_ae_allow\.0"):
        ScpSettings(calling_ae_allow=(text,))


@pytest.mark.parametrize(
    ("pattern", "address", "expected"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.70", False),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("::ffff:192.0.2.0/120", "192.0.2.9", True),
        ("192.0.2.*", "::ffff:192.0.2.9", True),
        ("192.0.2.*", "192.0.20.9", False),
        ("192.0.2.?", "192.0.2.10", False),
        ("192.0.2.0/24", "192.0.2.255", True),
        ("192.0.2.0/24", "192.0.3.0", False),
        ("2001:DB8::1", "2001:db8:0:0:0:0:0:1", True),
        ("2001:DB8:*", "2001:db8::1", True),
        ("2001:db8::/32", "2001:db8:ffff::1", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("*", "::1", True),
        ("0.0.0.0/0", "::1", False),
        ("192.0.2.*", "no address", False),
    ],
)
def test_addresses(pattern: str, address: str, expected: bool) -> None:
    assert AddressPatterns([address_pattern(pattern)]).match(address) is expected


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("modality.example", "host names are not looked up"),
        ("192.0.2.7/24", "write 192.0.2.0/24"),
        ("192.0.2", "no IP address"),
        ("192.0.2.300", "no IP address"),
        ("", "no IP address"),
    ],
)
def test_wrong_addresses_are_refused_with_a_hint(pattern: str, hint: str) -> None:
    with pytest.raises(ValidationError, match=rf"address_allow\.0[\s\S]*{hint}"):
        ScpSettings(address_allow=(pattern,))


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_networks_hold_what_they_hold(base: Any, length: int, address: IPv4Address) -> None:
    network = ip_network((base, length), strict=False)
    allowed = AddressPatterns([str(network)])
    mapped = IPv6Address((0xFFFF << 32) | int(address))
    assert allowed.match(str(address)) == allowed.match(str(mapped)) == (address in network)


# Limits ------------------------------------------------------------------------------------------


def test_limits_reject_for_now() -> None:
    door = admission(max_associations=2, ae_limits={"CT?": 1, "*": 9})
    ct = Applicant("CT1", "PREREAD", "192.0.2.7")
    assert door.decide(1, ct) is None
    second = door.decide(2, ct)
    assert second is not None
    assert (answer(second), second.kind) == ((2, 3, 2), RejectionKind.AE_LIMIT)
    assert door.decide(3, SENDER) is None
    third = door.decide(4, SENDER)
    assert third is not None
    assert (answer(third), third.kind) == ((2, 3, 2), RejectionKind.ASSOCIATIONS)
    door.leave(1)
    assert door.decide(4, SENDER) is None


def test_the_first_pattern_that_matches_limits() -> None:
    door = admission(ae_limits={"CT1": 2, "CT*": 1})
    ct1, ct2 = (Applicant(title, "PREREAD", "192.0.2.7") for title in ("CT1", "CT2"))
    assert [door.decide(n, ct1) is None for n in range(3)] == [True, True, False]
    assert [door.decide(n, ct2) is None for n in range(10, 12)] == [True, False]


def test_a_full_disk_and_a_stop_reject_for_now() -> None:
    full = admission(has_room=False).decide(1, SENDER)
    assert full is not None
    assert (answer(full), full.kind) == ((2, 3, 1), RejectionKind.DISK)
    assert admission(has_room=False).decide(1, replace(SENDER, stores=False)) is None
    door = admission()
    assert door.decide(1, SENDER) is None
    door.close()
    late = door.decide(2, SENDER)
    assert late is not None
    assert (answer(late), late.kind) == ((2, 3, 1), RejectionKind.STOPPING)
    assert door.n_open == 1


@pytest.mark.parametrize("limits", [{"CT": 0}, {"": 1}, {"A\\": 1}])
def test_wrong_limits_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="ae_limits"):
        ScpSettings(ae_limits=limits)


steps = st.lists(
    st.tuples(st.booleans(), st.integers(0, 12), st.sampled_from(["A", "B", "CC"])), max_size=80
)


@given(steps, st.integers(1, 6), st.integers(1, 3))
def test_never_more_than_the_limits_and_every_leave_frees(
    steps: list[tuple[bool, int, str]], most: int, of_ae: int
) -> None:
    door = admission(max_associations=most, ae_limits={"?": of_ae})
    model: dict[int, str] = {}
    for comes, key, title in steps:
        if not comes:
            door.leave(key)
            model.pop(key, None)
        else:
            count = Counter(model.values())
            limit = of_ae if len(title) == 1 else most
            has_place = key in model or (len(model) < most and count[title] < limit)
            rejection = door.decide(key, Applicant(title, "PREREAD", "192.0.2.7"))
            assert (rejection is None) == has_place
            if has_place:
                model.setdefault(key, title)
        assert door.n_open == len(model) <= most
    for key in list(model):
        door.leave(key)
    assert door.n_open == 0
    assert door.decide("new", Applicant("A", "PREREAD", "192.0.2.7")) is None


def test_many_threads_get_exactly_the_places_there_are() -> None:
    door = admission(max_associations=7, ae_limits={"A": 3})
    start = threading.Barrier(16)
    highest: list[int] = []

    def come_and_go(worker: int) -> None:
        applicant = Applicant("AB"[worker % 2], "PREREAD", "192.0.2.7")
        start.wait()
        for turn in range(200):
            if door.decide((worker, turn), applicant) is None:
                highest.append(door.n_open)
                door.leave((worker, turn))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(come_and_go, range(16)))
    assert door.n_open == 0
    assert max(highest) <= 7
    with ThreadPoolExecutor(16) as pool:
        admitted = list(pool.map(lambda n: door.decide(n, SENDER) is None, range(32)))
    assert sum(admitted) == 7

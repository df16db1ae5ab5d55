"""Which places the settings of destinations mean, and whose results go there."""

from __future__ import annotations

from typing import Any

import pytest

from scp.places import peer_of, places, takes_from
from scp.settings import AeSettings, DestinationSettings

PEERS = [
    AeSettings(name="CT1", host="ct1", port=104),
    AeSettings(name="CT2", host="ct2", port=105, ae_title="CT2_STORE"),
    AeSettings(name="DX1", host="dx1", port=106),
]


def destination(**settings: Any) -> DestinationSettings:
    return DestinationSettings.model_validate({"name": "back", **settings})


def test_a_destination_with_an_address_is_one_place() -> None:
    pacs = destination(ae_title="PACS", host="pacs", port=104)
    assert places([pacs], PEERS) == (pacs,)


def test_replies_go_to_each_peer_under_a_name_of_its_own() -> None:
    found = places([destination(reply=True, proof="commit")], PEERS)
    assert [place.name for place in found] == ["back:CT1", "back:CT2", "back:DX1"]
    assert {place.proof for place in found} == {"commit"}
    called = [str(peer_of(place, "PREREAD")) for place in found]
    assert called == ["CT1 at ct1:104", "CT2_STORE at ct2:105", "DX1 at dx1:106"]


def test_replies_to_some_only() -> None:
    found = places([destination(reply=True, from_ae=["CT*"])], PEERS)
    assert [place.name for place in found] == ["back:CT1", "back:CT2"]


@pytest.mark.parametrize("calling_ae", ["CT1", "CT2", "OTHER", None])
def test_a_reply_goes_to_its_sender_and_nobody_else(calling_ae: str | None) -> None:
    found = places([destination(reply=True)], PEERS)
    takers = [place.name for place in found if takes_from(place, calling_ae)]
    assert takers == ([f"back:{calling_ae}"] if calling_ae in ("CT1", "CT2") else [])


def test_a_peer_whose_title_has_a_star_is_no_pattern() -> None:
    (place,) = places([destination(reply=True)], [AeSettings(name="CT*", host="h", port=1)])
    assert takes_from(place, "CT*")
    assert not takes_from(place, "CT1")


def test_results_of_some_senders_only() -> None:
    pacs = destination(ae_title="PACS", host="pacs", port=104, from_ae=["CT?"])
    assert takes_from(pacs, "CT1 ")
    assert not takes_from(pacs, "DX1")
    assert not takes_from(pacs, None)
    assert takes_from(destination(ae_title="PACS", host="pacs", port=104), None)

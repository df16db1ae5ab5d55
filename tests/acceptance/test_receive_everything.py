"""Every storage SOP class and transfer syntax is kept bit for bit, listed and deliverable."""

from __future__ import annotations

from typing import Any

import pydicom
from encoded import image, sha256
from kept import assert_kept, assert_nothing_besides, files_of
from pydicom.uid import AllTransferSyntaxes
from raw_pdus import CT_IMAGE, EXPLICIT_LITTLE, STATUS, Instance, store_pdus
from raw_scu import RawAssociation
from running import Node, wait_for

PRIVATE_SYNTAXES = ("1.2.3.4.5.6.7.8", "2.25.329800735698586629295641978511506172918")
OF_A_PATIENT = {
    "private": "1.2.3.4.5.6.7",
    "not yet known": "1.2.840.10008.5.1.4.1.1.999.1",
    "Nuclear Medicine, retired": "1.2.840.10008.5.1.4.1.1.5",
    "Ultrasound Multi-frame, retired": "1.2.840.10008.5.1.4.1.1.3",
    "Raw Data": "1.2.840.10008.5.1.4.1.1.66",
    "Encapsulated PDF": "1.2.840.10008.5.1.4.1.1.104.1",
    "Inventory": "1.2.840.10008.5.1.4.1.1.201.1",
}
# PS3.4 Annex GG: they belong to no patient and have no Study Instance UID.
OF_NO_PATIENT = {
    "Hanging Protocol": "1.2.840.10008.5.1.4.38.1",
    "Color Palette": "1.2.840.10008.5.1.4.39.1",
    "Generic Implant Template": "1.2.840.10008.5.1.4.43.1",
    "CT Defined Procedure Protocol": "1.2.840.10008.5.1.4.1.1.200.1",
    "private": "1.2.3.4.5.6.8",
}
_NO_PATIENT = dict.fromkeys((0x00100010, 0x00100020, 0x0020000D, 0x0020000E), ("", ""))


def in_every_syntax() -> list[Instance]:
    return [
        image(syntax, syntax=syntax, n_bytes=3_000)
        for syntax in (*map(str, AllTransferSyntaxes), *PRIVATE_SYNTAXES)
    ]


def of_every_class() -> list[Instance]:
    return [image(name, sop_class=uid) for name, uid in OF_A_PATIENT.items()] + [
        image("no patient", name, sop_class=uid, changes=_NO_PATIENT)
        for name, uid in OF_NO_PATIENT.items()
    ]


def store_all(node: Node, instances: list[Instance]) -> dict[str, str]:
    contexts = dict.fromkeys(one.context for one in instances)
    with RawAssociation(node.port, contexts) as opened:
        assert set(opened.accepted) == set(contexts)
        answered = {one.sop_instance_uid: opened.store(one) for one in instances}
    assert set(answered.values()) == {0}, answered
    return {one.sop_instance_uid: sha256(one) for one in instances}


def listed(node: Node) -> dict[str, tuple[str, str, str]]:
    rows = node.query(
        "SELECT sop_instance_uid, sop_class_uid, transfer_syntax_uid, sha256 FROM v_instances"
    )
    return {uid: (sop_class, syntax, digest) for uid, sop_class, syntax, digest in rows}


def test_everything_is_kept_listed_and_deliverable(start_receiver: Any) -> None:
    node = start_receiver()
    instances = in_every_syntax() + of_every_class()
    acknowledged = store_all(node, instances)

    assert_kept(node, acknowledged)
    assert_nothing_besides(node)
    assert listed(node) == {
        one.sop_instance_uid: (one.sop_class_uid, one.transfer_syntax_uid, sha256(one))
        for one in instances
    }
    for path in files_of(node):
        meta = pydicom.dcmread(node.data / path, stop_before_pixels=True, force=False).file_meta
        sop_class, syntax, _ = listed(node)[str(meta.MediaStorageSOPInstanceUID)]
        assert (meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) == (sop_class, syntax)
    wait_for(
        lambda: {state for (state,) in node.query("SELECT state FROM v_series")} == {"parked"}, 60
    )

    second = start_receiver()
    files = [str(node.data / path) for path in files_of(node)]
    sent = node.preread("send", f"127.0.0.1:{second.port}", *files)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert_kept(second, acknowledged)
    assert listed(second) == listed(node)


CUTS = [(1, 64), (10, 1), (100, 7), (4_096, 1_000), (16_372, 1), (16_372, 3), (131_060, 1)]


def test_however_it_is_cut_into_pdvs(start_receiver: Any) -> None:
    """Bytes of a PDV, PDVs of a PDU; also command set and data set in one PDU."""
    node = start_receiver()
    acknowledged = {}
    with RawAssociation(node.port, [(CT_IMAGE, EXPLICIT_LITTLE)]) as opened:
        for cut in CUTS:
            for n_bytes in (0, 300, 9_000):
                one = image(cut, n_bytes, n_bytes=n_bytes)
                assert opened.store(one, *cut) == 0
                acknowledged[one.sop_instance_uid] = sha256(one)
    assert_kept(node, acknowledged)


def test_byte_by_byte(start_receiver: Any) -> None:
    """The kernel hands over what it likes: no read may count on whole headers."""
    node = start_receiver()
    one = image("bytes", n_bytes=600)
    with RawAssociation(node.port, [(CT_IMAGE, EXPLICIT_LITTLE)]) as opened:
        for encoded in store_pdus(one, 1, size=150, together=2):
            opened.send(encoded, 1)
        assert opened.response()[STATUS] == 0
    assert_kept(node, {one.sop_instance_uid: sha256(one)})

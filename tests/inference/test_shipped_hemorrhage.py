"""The hemorrhage reader that ships, on real images and on phantoms that nobody trained it on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from pydicom import dcmread

from inference.bundle import open_bundle
from inference.errors import NotAnalysableError
from inference.evaluation.images import image_reader, read_images
from inference.head_seen import HeadSeen
from inference.model import load_reader
from inference.pixels import hounsfield_values
from inference.reader import Reader
from inference.reading import NotAnalysed, Presence, Reading, Scope, SourceImage
from inference.settings import shipped_bundles
from inference.training.phantoms.files import write_head_series
from inference.training.reference_bundle import VERSION
from inference.training.reference_hemorrhage import (
    LABELS,
    NETWORK_DEF,
    SPEC,
    ReferenceSettings,
    Round,
)

Sources = Callable[[Iterable[Path]], list[SourceImage]]


@pytest.fixture(scope="module")
def reader() -> Reader:
    path = next(path for path in shipped_bundles() if path.name == "hemorrhage")
    reader = load_reader(open_bundle(path), "cpu")
    assert isinstance(reader, Reader)
    return reader


def test_it_is_what_its_command_makes(reader: Reader) -> None:
    bundle, settings = reader.bundle, ReferenceSettings()
    assert bundle.version == VERSION
    assert bundle.spec == SPEC
    assert bundle.network_def == NETWORK_DEF
    assert tuple(label.name for label in bundle.labels) == bundle.mapped == LABELS
    assert bundle.identity.weights_sha256 in bundle.card
    command = re.search(r"preread reference hemorrhage .*", bundle.card)
    assert command is not None
    for option in ("seeds", "steps", "fold_steps"):
        assert f"--{option.replace('_', '-')} {getattr(settings, option)} " in command[0]
    more = re.findall(r"--more (\d+):(\d+) ", command[0])
    assert [Round(int(seeds), int(steps)) for seeds, steps in more] == list(settings.more)
    for label in bundle.labels:
        limits = label.thresholds
        assert f"| {label.name} | {limits.low:.3f} | {limits.high:.3f} |" in bundle.card


def in_series(reading: Reading) -> dict[str, Presence]:
    return {f.label.name: f.presence for f in reading.findings if f.scope is Scope.SERIES}


def test_all_slices_of_the_real_head_and_the_whole_are_absent(
    reader: Reader, sources: Sources, shared_data: Path
) -> None:
    reading = reader.read(sources(sorted((shared_data / "head_ct_ge").glob("*.dcm"))))
    assert len(reading.used_sop_instance_uids) == 28
    assert {finding.presence for finding in reading.findings} == {Presence.ABSENT}
    assert reading.masks == ()


def test_the_real_phantom_is_refused(reader: Reader, sources: Sources, shared_data: Path) -> None:
    files = sorted((shared_data / "head_phantom_philips").glob("I*"))
    assert len(files) == 28
    with pytest.raises(NotAnalysableError) as refused:
        reader.read(sources(files))
    assert refused.value.code is NotAnalysed.NOT_A_PATIENT


def test_slices_that_show_no_brain_are_read_one_by_one(reader: Reader, tmp_path: Path) -> None:
    """The node reads them with their series, which is seen to be a head."""
    assert reader.bundle.suitability.anatomy == "head"
    (path, *_) = write_head_series(tmp_path, 11, size=256, slices=2)
    dataset = dcmread(path)
    stored = dataset.pixel_array.copy()
    stored[stored > 800] = 2000  # bone and no brain, as of a jaw
    dataset.PixelData = stored.tobytes()
    dataset.save_as(path)
    seen = HeadSeen(1)
    seen.look(hounsfield_values(dataset).values[None])
    with pytest.raises(NotAnalysableError):
        seen.check()
    (result,) = read_images(image_reader(reader.bundle, "cpu"), [path])
    assert result.fault == ""
    assert result.probabilities is not None


def test_a_drawn_bleed_is_found_where_it_is_and_its_twin_is_not(
    reader: Reader, sources: Sources, tmp_path: Path
) -> None:
    found, missed = [], []
    for seed in (11, 2041):
        for bleed in ("intraparenchymal", None):
            folder = tmp_path / f"{seed}-{bleed}"
            reading = reader.read(sources(write_head_series(folder, seed, bleed, size=256)))
            (found if bleed else missed).append(in_series(reading)["any"])
            if bleed:
                assert {mask.label for mask in reading.masks} >= {"any"}
    assert found == [Presence.PRESENT] * 2
    assert Presence.PRESENT not in missed

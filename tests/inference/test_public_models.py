"""torchxrayvision's DenseNet as a bundle: the same numbers as the package, from files not run."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from published_densenet import Published, published
from pydicom import dcmread
from safetensors.torch import save_file

from inference.bundle import Bundle, open_bundle
from inference.codes import CHEST_FINDINGS, CHEST_SITES, fault
from inference.display import show_radiograph
from inference.errors import BundleError, InferenceError
from inference.forward import Network
from inference.image_file import open_image
from inference.model import load_reader
from inference.network import load_network
from inference.objects import DeviceIdentity
from inference.pixels import radiograph_values
from inference.postprocess import image_findings
from inference.preprocess import place_radiograph
from inference.public import add_model, find_offer, offers
from inference.public.add import preread_section
from inference.public.densenet import convert, from_monai, read_weights, to_monai
from inference.public.published import OUTPUTS
from inference.public.stored_tensors import read_state_dict
from inference.reading import Reading, SourceImage
from inference.result_objects import ResultBasis, make_objects
from inference.tensors import prepare_radiograph

CPU = torch.device("cpu")
ALL = find_offer("torchxrayvision:densenet121-res224-all")
NIH = find_offer("torchxrayvision:densenet121-res224-nih")
SIIM = "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm"
TOLERANCE = 1e-4

Sources = Callable[[Iterable[Path]], list[SourceImage]]


@pytest.fixture(scope="module")
def package() -> Iterator[Published]:
    with published() as found:
        if found is None:
            if os.environ.get("CI") == "true":
                pytest.fail("torchxrayvision is not installed")
            pytest.skip("torchxrayvision is not installed (pip install --no-deps torchxrayvision)")
        yield found


@pytest.fixture(scope="module")
def network(package: Published) -> torch.nn.Module:
    return package.network()


@pytest.fixture(scope="module")
def weights_file(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published form: the whole module in the format before torch 1.6."""
    path = tmp_path_factory.mktemp("published") / "weights.pt"
    torch.save(network, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture(scope="module")
def bundle(weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("added") / "chest-findings"
    add_model(ALL, out, cache=out.parent / "cache", file=weights_file)
    return open_bundle(out)


@pytest.fixture(scope="module")
def siim(shared_data: Path) -> Path:
    return shared_data / "cxr_siim_format" / SIIM


def test_offers_say_what_the_package_says(package: Published) -> None:
    assert tuple(name.lower().replace(" ", "_") for name in package.outputs) == OUTPUTS
    assert len(offers()) == 7
    for offer in offers():
        facts = package.models.model_urls[offer.weights]
        assert offer.url == facts["weights_url"]
        np.testing.assert_array_equal(offer.operating_points, facts["op_threshs"])
        named = [name.lower().replace(" ", "_") for name in facts["labels"]]
        assert list(offer.labels) == [name for name in named if name]
        assert [named[index] for index in offer.indices] == list(offer.labels)


def test_every_output_has_a_code_and_a_site() -> None:
    assert tuple(CHEST_FINDINGS) == OUTPUTS == tuple(CHEST_SITES)
    for code in (*CHEST_FINDINGS.values(), *CHEST_SITES.values()):
        assert fault(code) is None
    assert len({code.value for code in CHEST_FINDINGS.values()}) == len(OUTPUTS)


def test_names_lead_there_and_back(network: torch.nn.Module, bundle: Bundle) -> None:
    theirs = set(network.state_dict())
    ours = set(load_network(bundle, CPU).state_dict())
    assert {to_monai(name) for name in theirs} == ours
    assert {from_monai(name) for name in ours} == theirs
    assert all(from_monai(to_monai(name)) == name for name in theirs)


def test_network_gives_the_same_numbers(
    package: Published, network: torch.nn.Module, bundle: Bundle
) -> None:
    tensor = torch.empty(2, 1, 224, 224).uniform_(-1024, 1024)
    with torch.inference_mode():
        assert torch.allclose(load_network(bundle, CPU)(tensor), network(tensor), atol=TOLERANCE)
        expected = package.calibrated(package.network(), ALL.weights)(tensor).numpy()
    np.testing.assert_allclose(
        Network(bundle, CPU).probabilities(tensor), expected, atol=TOLERANCE, rtol=0
    )
    assert (expected < 0.5).any() and (expected > 0.5).any()


@pytest.mark.parametrize("name", [SIIM, "Fake_MONOHR1.dcm"])
def test_a_real_film_is_read_as_the_package_reads_it(
    name: str, package: Published, bundle: Bundle, shared_data: Path, sources: Sources
) -> None:
    path = shared_data / "cxr_siim_format" / name
    # The twin is tagged MONOCHROME1 and is none: the package believes it, we look and turn it.
    theirs = path.with_name(SIIM)
    expected = package.read(theirs, package.calibrated(package.network(), ALL.weights))
    reader = load_reader(bundle, "cpu")
    reading = reader.read(sources([path]))
    assert 0.02 < np.median(expected) < 0.98
    found = {finding.label.name: finding.probability for finding in reading.findings}
    assert list(found) == list(OUTPUTS)
    np.testing.assert_allclose(list(found.values()), expected, atol=TOLERANCE, rtol=0)
    turned = "polarity_corrected" in str(reading.facts.get("pixel_notes"))
    assert turned == (name != SIIM)
    assert reading.illustrations and "illustration_failed" not in reading.facts


def test_where_it_looked_lies_over_the_central_square(
    bundle: Bundle, sample: Callable[[str], Path]
) -> None:
    dataset = open_image(sample("RG1_UNCR.dcm"))
    image = radiograph_values(dataset)
    rows, columns = shape = image.values.shape
    place = place_radiograph(image.values, bundle.spec)
    tensor = prepare_radiograph(image.values, bundle.spec, CPU, place, image.full_range)
    looked = Network(bundle, CPU).looked_at(tensor, 3, place)
    assert looked is not None
    assert max(looked.shape) == 256
    assert looked.shape[0] / looked.shape[1] == pytest.approx(rows / columns, rel=0.01)
    assert show_radiograph(image, dataset, 0, bundle.spec).shape == shape


def test_a_report_of_many_findings_is_not_named_after_one(
    bundle: Bundle, sample: Callable[[str], Path], sources: Sources
) -> None:
    path = sample("RG1_UNCR.dcm")
    (source,) = sources([path])
    findings = image_findings(bundle, [source.sop_instance_uid], np.full((1, 18), 0.4))
    basis = ResultBasis(
        sources=(dcmread(path, stop_before_pixels=True),),
        model=bundle.identity,
        device=DeviceIdentity("PREREAD", "Preread", "Preread", "0.1", "SN1"),
        created_at=datetime(2026, 3, 1, tzinfo=UTC),
        reading=Reading(findings, (source.sop_instance_uid,)),
    )
    result = make_objects(basis)
    assert result.made and not result.failures
    assert not any(made.fault for made in result.made)
    assert {made.dataset.SeriesDescription for made in result.made} == {
        "AI unverified: chest-findings"
    }


def test_labels_that_were_not_trained_are_left_out(weights_file: Path, tmp_path: Path) -> None:
    added = add_model(NIH, tmp_path / "nih", cache=tmp_path, name="nih-findings", file=weights_file)
    bundle = open_bundle(added.path)
    assert [label.name for label in bundle.labels] == list(OUTPUTS[:14])
    assert [output.index for output in bundle.outputs] == list(range(14))
    assert (bundle.name, bundle.version) == ("nih-findings", "densenet121-res224-nih")
    rsna = preread_section(find_offer("torchxrayvision:densenet121-res224-rsna"))
    assert [label["output"] for label in rsna["labels"]] == [8, 16]
    assert rsna["calibration"] == {"operating_points": [0.13486601, 0.13511065]}


def test_the_bundle_says_where_it_came_from(bundle: Bundle, weights_file: Path) -> None:
    metadata = json.loads((bundle.path / "configs" / "metadata.json").read_text())
    assert metadata["source"]["url"] == ALL.url
    assert metadata["source"]["sha256"] in bundle.card
    assert "**not the published file**" in bundle.card
    assert bundle.identity.weights_sha256 in bundle.card
    assert bundle.identity.manufacturer == "torchxrayvision"
    for figure in ("| NIH | 0.75 |", "| SIIM | 0.79 |", "| MIMIC | 0.81 |", "measured none"):
        assert figure in bundle.card
    assert all(label.thresholds.low == label.thresholds.high == 0.5 for label in bundle.labels)


@pytest.mark.parametrize("form", ["module", "old", "state", "loaded", "safetensors"])
def test_every_form_of_the_weights_is_read(
    form: str, package: Published, network: torch.nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "module":
        torch.save(network, path)
    elif form == "old":
        # Of a torch that knew no non-persistent buffers, with arrays among its attributes.
        aged = package.network()
        for module in aged.modules():
            del module.__dict__["_non_persistent_buffers_set"]
        aged.pathologies = np.array(package.outputs)  # type: ignore[assignment]
        aged.best = np.float64(0.5)  # type: ignore[assignment]
        torch.save(aged, path, _use_new_zipfile_serialization=False)
    elif form == "state":
        torch.save(network.state_dict(), path)
    elif form == "loaded":
        # As the package has it after loading: its operating points are a buffer then.
        torch.save(package.calibrated(package.network(), ALL.weights), path)
    else:
        save_file(dict(network.state_dict()), path)
    weights = read_weights(path, ALL)
    expected = network.state_dict()
    assert len(weights) == len(expected)
    assert all(torch.equal(weights[to_monai(name)], expected[name]) for name in expected)
    if form == "loaded":
        with pytest.raises(BundleError, match="operating points are others"):
            read_weights(path, NIH)


def test_other_weights_are_refused(network: torch.nn.Module) -> None:
    state = dict(network.state_dict())
    bias = state.pop("classifier.bias")
    for change, message in (
        ({}, "lacks 1 of the weights, such as classifier.bias"),
        ({"classifier.bias": bias[:14]}, "in another shape 1 of the weights"),
        (
            {"classifier.bias": bias, "more": bias},
            "should not have, 1 of the weights, such as more",
        ),
        ({"classifier.bias": bias * torch.nan}, "values that are no numbers"),
    ):
        with pytest.raises(BundleError, match=message):
            convert({**state, **change}, ALL, Path("w.pt"))


class Attack:
    """Calls something when it is unpickled."""

    def __init__(self, call: Any, *arguments: object) -> None:
        self._reduced = (call, arguments)

    def __reduce__(self) -> Any:
        return self._reduced


@pytest.mark.parametrize("legacy", [False, True])
def test_a_malicious_file_is_refused_and_not_run(legacy: bool, tmp_path: Path) -> None:
    path, mark = tmp_path / "w.pt", tmp_path / "was-here"
    attacks = (
        Attack(os.system, f"touch {mark}"),
        Attack(eval, f"open({str(mark)!r}, 'w')"),
        Attack(os.mkdir, str(mark)),
        Attack(getattr, "text", "upper"),
        Attack(torch.hub.load, "a/b", "c"),
    )
    for attack in attacks:
        saved = {**torch.nn.Linear(3, 2).state_dict(), "extra": attack}
        torch.save(saved, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(BundleError, match="nothing of it was run"):
            read_state_dict(path)
        assert not mark.exists()
    # The files are real attacks: torch itself, asked to, would run them.
    torch.save({"extra": attacks[2]}, path, _use_new_zipfile_serialization=not legacy)
    torch.load(path, weights_only=False)
    assert mark.exists()


def test_a_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "w.pt", tmp_path / "was-here"
    path.write_bytes(pickle.dumps(Attack(os.mkdir, str(mark))))
    with pytest.raises(BundleError, match=r"names posix.mkdir, which no weights need"):
        read_state_dict(path)
    path.write_bytes(b"no pickle at all")
    with pytest.raises(BundleError, match="no file of weights"):
        read_state_dict(path)
    with pytest.raises(BundleError, match="cannot be read: No such file"):
        read_state_dict(tmp_path / "away.pt")
    assert not mark.exists()


def test_a_tensor_does_not_grow_beyond_its_storage(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"w": torch.zeros(1).expand(1 << 20)}, path)
    with pytest.raises(BundleError):
        read_state_dict(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_names_of_one_storage_do_not_fill_the_memory(legacy: bool, tmp_path: Path) -> None:
    """2000 views of 4 MiB are a small file; copies of them would have 8 GiB."""
    path, whole = tmp_path / "w.pt", torch.zeros(1 << 20)
    views = {f"w{number}": whole.view(1 << 10, 1 << 10) for number in range(2000)}
    for saved in (views, {"w": whole}):
        torch.save(saved, path, _use_new_zipfile_serialization=not legacy)
        assert path.stat().st_size < 5 << 20
        if len(saved) > 1:
            with pytest.raises(BundleError, match="no file of weights"):
                read_state_dict(path)
        else:
            assert torch.equal(read_state_dict(path)["w"], whole)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_costs_no_more_than_its_length(legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    # A memo of 128 GiB said in eleven bytes, and a text that is too long to be a name.
    memo = b"\x80\x02}r\xff\xff\xff\xff0N."
    long = pickle.dumps({"w" * (9 << 20): 1})
    for attack in (memo, long):
        if legacy:
            path.write_bytes(attack)
        else:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("w/data.pkl", attack)
        with pytest.raises(BundleError, match=r"no file of weights .*\(ValueError\)"):
            read_state_dict(path)


def _small(legacy: bool) -> bytes:
    saved = io.BytesIO()
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    torch.save(module, saved, _use_new_zipfile_serialization=not legacy)
    return saved.getvalue()


SMALL = {legacy: _small(legacy) for legacy in (False, True)}


@example(legacy=False, at=0.796875, byte=0, cut=False)
@given(legacy=st.booleans(), at=st.floats(0, 1), byte=st.integers(0, 255), cut=st.booleans())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_told_or_harmless(
    legacy: bool, at: float, byte: int, cut: bool, tmp_path: Path
) -> None:
    data = bytearray(SMALL[legacy])
    place = min(len(data) - 1, int(at * len(data)))
    data[place] = byte
    path = tmp_path / "w.pt"
    path.write_bytes(data[:place] if cut else data)
    try:
        found = read_state_dict(path)
    except BundleError:
        return
    assert all(isinstance(tensor, torch.Tensor) for tensor in found.values())


def test_an_archive_that_lies_about_its_storage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(io.BytesIO(SMALL[False])) as whole, zipfile.ZipFile(path, "w") as cut:
        for name in whole.namelist():
            data = whole.read(name)
            cut.writestr(name, data[:-1] if name.endswith("data/0") else data)
    with pytest.raises(BundleError, match="no file of weights"):
        read_state_dict(path)


def test_unknown_names_are_told() -> None:
    with pytest.raises(InferenceError, match="there are: torchxrayvision:densenet121-res224-all"):
        find_offer("torchxrayvision:resnet")


def test_nothing_else_is_overwritten(weights_file: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(BundleError, match="give another --out"):
        add_model(ALL, tmp_path, cache=tmp_path / "c", file=weights_file)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_full_range_is_what_the_package_takes(
    package: Published, bundle: Bundle, sample: Callable[[str], Path]
) -> None:
    """Real films of 10 and 12 bits, MONOCHROME1: the very tensor, to rounding."""
    for name in ("RG1_UNCR.dcm", "RG3_UNCR.dcm"):
        path = sample(name)
        theirs = torch.from_numpy(package.center_crop()(package.utils.read_xray_dcm(path)[None]))
        theirs = package.utils.fix_resolution(theirs, 224, object())
        image = radiograph_values(open_image(path))
        spec = replace(bundle.spec, polarity="tag")
        ours = prepare_radiograph(image.values, spec, CPU, full_range=image.full_range)
        assert torch.allclose(ours, theirs, atol=0.002, rtol=0), name  # of 2048
        assert dcmread(path).BitsStored < 16

"""What a lower precision does is told by a site's own images; on the CPU, which emulates it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from deploy.cli import app
from deploy.errors import DeployError
from inference.bundle import Bundle
from inference.engines.choose import Chosen
from inference.engines.cuda_engine import CudaEngine
from inference.engines.ladder import Ladder
from inference.errors import InferenceError
from inference.evaluation.images import ImageResult, image_reader, read_images
from inference.evaluation.precision import precision_drift
from inference.forward import Network
from inference.network import load_network

CPU = torch.device("cpu")


def emulated(paths: list[Path]) -> Callable[[Bundle], Iterable[ImageResult]]:
    """Read with the engine of GPUs on the CPU, in the precision of the bundle."""

    def read(bundle: Bundle) -> Iterable[ImageResult]:
        reader = image_reader(bundle, "cpu", gate=False)
        network = load_network(bundle, CPU)
        size, channels = bundle.spec.size, bundle.spec.channels
        engine = CudaEngine(
            network, CPU, torch.zeros(1, channels, size, size), precision=bundle.engine.precision
        )
        loaded = reader._network
        assert isinstance(loaded, Network)
        loaded._chosen = Chosen(Ladder(engine), network)
        loaded._engine = loaded._chosen.engine
        return read_images(reader, paths)

    return read


def test_a_lower_precision_is_compared_on_real_images(
    chest_bundle: Bundle, sample: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "none.dcm").write_bytes(b"no image")
    paths = [sample("RG3_J2KR.dcm"), tmp_path / "none.dcm", sample("vlut_04.dcm")]
    found = precision_drift(chest_bundle, "bfloat16", emulated(paths))
    assert (found.images, found.unread) == (2, (tmp_path / "none.dcm",))
    (drift,) = found.labels
    assert 0 < drift.mean <= drift.largest < 0.05


def test_thresholds_that_are_crossed_are_counted(chest_bundle: Bundle) -> None:
    (label,) = chest_bundle.labels
    high = label.thresholds.high
    told = {"float32": [0.0, high + 0.01, high - 0.01], "float16": [0.001, high - 0.01, high]}

    def read(bundle: Bundle) -> Iterable[ImageResult]:
        for number, one in enumerate(told[bundle.engine.precision]):
            yield ImageResult(Path(str(number)), np.array([one]))

    (drift,) = precision_drift(chest_bundle, "float16", read).labels
    assert drift.crossed == 2
    assert drift.largest == pytest.approx(0.02)
    assert drift.mean == pytest.approx((0.001 + 0.02 + 0.01) / 3)


def test_nothing_read_is_no_agreement(chest_bundle: Bundle) -> None:
    with pytest.raises(InferenceError, match="nothing to compare"):
        precision_drift(chest_bundle, "bfloat16", lambda _: [ImageResult(Path("a"), None, "no")])


def test_a_cpu_checks_nothing(chest_bundle: Bundle, sample: Callable[[str], Path]) -> None:
    asked = ["models", "check", str(chest_bundle.path), str(sample("RG3_J2KR.dcm"))]
    ended = CliRunner().invoke(app, [*asked, "--device", "cpu"])
    assert isinstance(ended.exception, DeployError)
    assert "run this on the machine with the GPU" in str(ended.exception)

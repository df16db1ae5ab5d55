"""What a file costs on its way to a network: ``python tests/benchmarks/input/path.py FILE...``.

For each file: opened by its facts and without them, the gate, the values and the tensor; beside
MONAI's dictionary transforms for the same input, and where ONNX Runtime is installed the bare
network. Processor time of one thread, medians of interleaved rounds. Prints Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import DenseNet121, EfficientNetBN
from monai.transforms import (
    Compose,
    ConcatItemsd,
    CopyItemsd,
    EnsureChannelFirstd,
    LoadImaged,
    Resized,
    ScaleIntensityRanged,
    ScaleIntensityRangePercentilesd,
    SpatialPadd,
)

from inference.criteria import Criteria
from inference.heap import keep_freed_memory
from inference.input_spec import InputSpec
from inference.model_values import model_values
from inference.open_source import index_file, open_source
from inference.reading import SourceImage
from inference.stored_facts import facts_from_bytes
from inference.suitability import check_image
from inference.tensors import prepare_ct, prepare_radiograph
from inference.volume import slices_of
from inference.windows import BRAIN, SOFT, SUBDURAL

CT = InputSpec("ct_slices", 256, (BRAIN, SUBDURAL, SOFT))
FILM = InputSpec("radiograph", 224)
CPU = torch.device("cpu")
ROUNDS = 7


def ours(path: Path, spec: InputSpec, kept: bytes | None) -> torch.Tensor:
    """Return the tensor of one file as a worker makes it."""
    facts = None if kept is None else facts_from_bytes(kept)
    image = SourceImage(1, "1", "1", "1", path, facts)
    dataset, _ = open_source(image)
    check_image(dataset, Criteria())
    values = model_values(dataset, 0, spec)
    if spec.kind == "radiograph":
        return prepare_radiograph(values.values, spec, CPU, full_range=values.full_range)
    slices_of(image, dataset)
    return prepare_ct(values.values[None], spec, CPU)


def of_monai(spec: InputSpec) -> Compose:
    """Return the dictionary transforms for the same input."""
    first = [LoadImaged("image", reader="PydicomReader"), EnsureChannelFirstd("image")]
    resize: dict[str, Any] = {"mode": "bilinear", "anti_aliasing": True}
    if spec.kind == "radiograph":
        return Compose(
            [
                *first,
                ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0, 1, clip=True),
                Resized("image", spec.size, size_mode="longest", **resize),
                SpatialPadd("image", (spec.size, spec.size)),
            ]
        )
    names = [f"window{number}" for number in range(len(spec.windows))]
    windows = [
        ScaleIntensityRanged(
            name, one.center - one.width / 2, one.center + one.width / 2, 0, 1, clip=True
        )
        for name, one in zip(names, spec.windows, strict=True)
    ]
    copies = CopyItemsd("image", len(names), names=names)
    return Compose(
        [
            *first,
            copies,
            *windows,
            ConcatItemsd(names, "image"),
            Resized("image", (spec.size, spec.size), **resize),
        ]
    )


def network(spec: InputSpec) -> Callable[[torch.Tensor], object] | None:
    """Return the bare network on ONNX Runtime with one thread; None without it."""
    try:
        import onnxruntime
    except ImportError:
        return None
    made: torch.nn.Module
    if spec.kind == "radiograph":
        made = DenseNet121(2, 1, 1)
    else:
        made = EfficientNetBN("efficientnet-b0", pretrained=False, num_classes=6)
        made.set_swish(False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/network.onnx"
        example = torch.rand(1, spec.channels, spec.size, spec.size)
        torch.onnx.export(made.eval(), (example,), path, dynamo=False, input_names=["x"])
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    return lambda tensor: session.run(None, {"x": tensor.numpy()})


def timed(cases: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median milliseconds of each case."""
    spent: dict[str, list[float]] = {name: [] for name in cases}
    for once in range(ROUNDS + 1):
        for name, case in cases.items():
            started = time.process_time()
            case()
            if once:  # the first round warms up
                spent[name].append((time.process_time() - started) * 1e3)
    return {name: statistics.median(times) for name, times in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    torch.set_num_threads(1)
    keep_freed_memory()
    print("| file | by its facts | without | MONAI | bare network | share of the bare network |")
    print("| --- | --- | --- | --- | --- | --- |")
    for path in parser.parse_args().files:
        dataset, _ = open_source(SourceImage(1, "1", "1", "1", path))
        spec = CT if dataset.get("Modality") == "CT" else FILM
        kept, monai, bare = index_file(path).to_bytes(), of_monai(spec), network(spec)
        tensor = ours(path, spec, kept)
        cases: dict[str, Callable[[], object]] = {
            "facts": lambda p=path, s=spec, k=kept: ours(p, s, k),  # type: ignore[misc]
            "file": lambda p=path, s=spec: ours(p, s, None),  # type: ignore[misc]
            "monai": lambda p=path, m=monai: m({"image": str(p)}),  # type: ignore[misc]
        }
        if bare is not None:
            cases["bare"] = lambda b=bare, t=tensor: b(t)  # type: ignore[misc]
        ms = timed(cases)
        share = f"{ms['bare'] / (ms['bare'] + ms['facts']):.2f}" if "bare" in ms else "-"
        told = f"{ms['bare']:.1f}" if "bare" in ms else "-"
        print(
            f"| {path.name} | {ms['facts']:.2f} | {ms['file']:.2f} | {ms['monai']:.1f} | {told} "
            f"| {share} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

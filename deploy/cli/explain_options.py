"""Options of ``preread explain``, each a type of its own, in the order of the command."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

import typer

from ..errors import DeployError


class Method(StrEnum):
    """How it is found out; without one the way of the analysis is taken."""

    CLASS_ACTIVATION = "class-activation"
    GRADIENTS = "gradients"
    OCCLUSION = "occlusion"
    INTEGRATED_GRADIENTS = "integrated-gradients"


_OCCLUDES, _INTEGRATES = (Method.OCCLUSION,), (Method.INTEGRATED_GRADIENTS,)
# Of which methods an option is.
_OF: Final[Mapping[str, tuple[Method, ...]]] = MappingProxyType(
    {
        "patch": _OCCLUDES,
        "stride": _OCCLUDES,
        "steps": _INTEGRATES,
        "cell": _INTEGRATES,
        "baseline": (*_OCCLUDES, *_INTEGRATES),
    }
)


def refuse_idle(method: Method | None, given: Mapping[str, object]) -> None:
    """Raise where an option is given that the method does not have: it would change nothing.

    Parameters
    ----------
    method : Method or None
        None is the way of the analysis, which has no options.
    given : mapping of str to object
        Options by name; None for those that are not given.

    Raises
    ------
    DeployError
        Names the option, and the method that has it.
    """
    for name, value in given.items():
        if value is None or method in (of := _OF[name]):
            continue
        takes = " or ".join(f"--method {one}" for one in of)
        has = "the way of the analysis" if method is None else f"--method {method}"
        raise DeployError(f"{has} has no --{name}: it goes with {takes}")


# What is explained.
What = Annotated[
    str,
    typer.Argument(
        help="Id of an analysis, UID of a study, series, result object or image that was read "
        "(of each its last digits do, 6 or more; of an id its first), or an image file."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="Of several analyses that of this model. For a file: folder of a bundle, or name "
        "of a model."
    ),
]
How = Annotated[
    Method | None,
    typer.Option(
        help="How; the way of the analysis if not given, which is the network's own map where it "
        "gives one. Integrated gradients need captum, which the extra 'explain' of Preread "
        "installs.",
        show_default=False,
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        help="Name of the finding; the surest, of a file the model's primary one, if not given."
    ),
]
Frame = Annotated[
    int | None,
    typer.Option(min=1, help="Frame, from 1; the one that was pictured, or the first."),
]

# How finely.
Patch = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="occlusion: side of what covers, in pixels of the network's input; twice the "
        "stride if not given.",
    ),
]
Stride = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="occlusion: how far it is moved, and the side of a cell; a 16th of the input.",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(min=1, help="integrated-gradients: points on the way from black; 50."),
]
Cell = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="integrated-gradients: side of the cells that are summed up, in pixels of the "
        "input; a 32nd of it.",
    ),
]
Baseline = Annotated[
    float | None,
    typer.Option(
        help="occlusion, integrated-gradients: value of the input that covers, or where the way "
        "begins; its black if not given."
    ),
]

# Where to, and on what.
Out = Annotated[Path | None, typer.Option(help="PNG file to write; needed for an image file.")]
Inputs = Annotated[int, typer.Option(min=1, help="Inputs at the network at once.")]

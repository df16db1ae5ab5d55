"""``preread reference hemorrhage``: from backgrounds to a bundle, in rounds, each kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli import app
from inference.bundle import open_bundle
from inference.training.phantoms.files import write_head_series
from inference.training.reference_hemorrhage import LABELS


def asked(folder: Path, out: str, *options: str) -> list[str]:
    given = ["--backgrounds", str(folder / "heads"), "--negatives", str(folder / "heads")]
    given += ["--work", str(folder / "work"), "--out", str(folder / out)]
    few = ["--seeds", "50", "--steps", "1", "--fold-steps", "1", "--validation-seeds", "60"]
    return ["reference", "hemorrhage", *given, *few, "--workers", "1", *options]


@pytest.mark.slow
def test_every_round_is_kept_and_the_bundle_is_served(tmp_path: Path) -> None:
    write_head_series(tmp_path / "heads", seed=4, bleed=None, size=256)
    rounds = ("--more", "10:1", "--more", "5:2")
    made = CliRunner().invoke(app, asked(tmp_path, "one", *rounds))
    assert made.exit_code == 0, made.output
    bundle = open_bundle(tmp_path / "one")
    assert tuple(label.name for label in bundle.labels) == LABELS
    assert "--more 10:1 --more 5:2 " in bundle.card
    assert "65 slices were drawn" in bundle.card
    kept = sorted(path.stem for path in (tmp_path / "work").glob("*-round*"))
    assert kept == [*(f"final-round{n}" for n in range(3)), "fold0-round0", "fold1-round0"]

    # What stands there already is not done again; a round that is missing is, to the same end.
    (tmp_path / "work" / "final.safetensors").unlink()
    (tmp_path / "work" / "final-round2.safetensors").unlink()
    again = CliRunner().invoke(app, asked(tmp_path, "two", *rounds))
    assert again.exit_code == 0, again.output
    assert "final: step" not in made.output, "two steps are too few to be told of"
    weights = open_bundle(tmp_path / "two").identity.weights_sha256
    assert weights == bundle.identity.weights_sha256


@pytest.mark.parametrize("text", ["2500", "2500:750:1", "many:few", "-1:5", "\u0664:2"])
def test_a_round_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    refused = CliRunner().invoke(app, asked(tmp_path, "out", "--more", text))
    assert refused.exit_code == 2
    assert "two numbers are asked for" in refused.output

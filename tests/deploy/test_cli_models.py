"""``preread models``, and what a published reader is to the node once it is added."""

from __future__ import annotations

import hashlib
import os
import threading
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from published_densenet import published
from typer.testing import CliRunner

from deploy.check import Verdict
from deploy.cli import app
from deploy.doctor_models import examine_demonstrations
from deploy.errors import DeployError
from deploy.receiving import usable_rules
from deploy.settings import load
from inference.catalogue import open_catalogue
from inference.errors import InferenceError
from inference.public import published as published_offers
from inference.public.published import OUTPUTS
from scp.rules import decide

NAME = "torchxrayvision:densenet121-res224-all"
CHEST = {
    "Modality": ["CR"],
    "BodyPartExamined": ["CHEST"],
    "ViewPosition": ["PA"],
    "SOPClassUID": ["1.2.840.10008.5.1.4.1.1.1"],
}
Run = Callable[..., str]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "weights.pt"
    with published() as package:
        if package is None:
            if os.environ.get("CI") == "true":
                pytest.fail("torchxrayvision is not installed")
            pytest.skip("torchxrayvision is not installed (pip install --no-deps torchxrayvision)")
        torch.save(package.network(), path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture(scope="module")
def sha256(weights: Path) -> str:
    return hashlib.sha256(weights.read_bytes()).hexdigest()


@pytest.fixture
def server(weights: Path) -> Iterator[str]:
    handler = partial(Quiet, directory=str(weights.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}/{weights.name}"
        serving.shutdown()
        thread.join()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "preread.toml"
    path.write_text(f'data_dir = "{tmp_path / "data"}"\n')
    return path


@pytest.fixture
def run(config: Path) -> Run:
    def call(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["models", *arguments, "--config", str(config)])
        if done.exception is not None:
            raise done.exception
        return done.stdout

    return call


def demonstrations(config: Path) -> list[str]:
    found = load(config)
    checks = list(examine_demonstrations(open_catalogue(found.inference, found.model)))
    assert all(check.verdict is Verdict.WARNING for check in checks)
    return [check.message for check in checks]


def test_a_published_reader_is_fetched_and_serves_chest_films(
    server: str, sha256: str, config: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer = replace(published_offers.find_offer(NAME), url=server, sha256=sha256)
    monkeypatch.setattr(published_offers, "_OFFERS", (offer,))
    told = run("add", NAME)
    assert "with the digest that others have published" in told and sha256 in told
    # What it says to add to the settings is all that is needed.
    section = told[told.index("[[model]]") :]
    assert [one["name"] for one in tomllib.loads(section)["model"]] == [
        "chest-findings",
        "pneumothorax",
    ]
    config.write_text(config.read_text() + section)
    found = load(config)
    bundles = open_catalogue(found.inference, found.model)
    assert tuple(label.name for label in bundles["chest-findings"].labels) == OUTPUTS
    routes = decide(CHEST, usable_rules(found, bundles)).routes
    assert [route.model for route in routes] == ["chest-findings"]
    listed = run("list", "--format", "csv")
    assert f'chest-findings,{offer.weights},radiograph,"{", ".join(OUTPUTS)}",0.5/0.5' in listed
    assert f"(from {NAME})" in listed
    assert "| SIIM | 0.79 |" in run("card", "chest-findings")
    assert not any("pneumothorax is" in message for message in demonstrations(config))


def test_it_can_stand_in_for_the_demonstration(
    weights: Path, sha256: str, config: Path, run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    told = run(
        "add", NAME, "--file", str(weights), "--out", str(out), "--sha256", sha256,
        "--name", "pneumothorax",
    )  # fmt: skip
    assert told.count("[[model]]") == 1 and "that was asked for" in told
    config.write_text(config.read_text() + told[told.index("[[model]]") :])
    found = load(config)
    bundles = open_catalogue(found.inference, found.model)
    assert bundles["pneumothorax"].path == out
    routes = decide(CHEST, usable_rules(found, bundles)).routes
    assert [route.model for route in routes] == ["pneumothorax"]
    assert not any("pneumothorax is" in message for message in demonstrations(config))


def test_a_file_with_another_digest_is_refused(weights: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InferenceError, match=rf"expected was {'0' * 64}"):
        run("add", NAME, "--file", str(weights), "--sha256", "0" * 64, "--out", str(out))
    with pytest.raises(DeployError, match="not 64 hexadecimal digits"):
        run("add", NAME, "--file", str(weights), "--sha256", "abc")
    assert not out.exists()


def test_unknown_names_are_told(run: Run) -> None:
    with pytest.raises(InferenceError, match=f"there are: {NAME}"):
        run("add", "torchxrayvision:x")
    with pytest.raises(DeployError, match="there are: hemorrhage, pneumothorax"):
        run("card", "x")


def test_what_is_offered_is_listed(run: Run) -> None:
    text = " ".join(run("list").split())
    for word in ("hemorrhage", "pneumothorax", "shipped, for demonstration", NAME):
        assert word in text
    assert "# Pneumothorax on frontal chest radiographs" in run("card", "pneumothorax")


def test_demonstrations_are_called_so_until_they_are_replaced(config: Path) -> None:
    said = demonstrations(config)
    assert [message.split()[0] for message in said] == ["hemorrhage", "pneumothorax"]
    assert f"recommended: preread models add {NAME}, or preread train pneumothorax" in said[1]
    before = config.read_text()
    config.write_text(before + '[[model]]\nname = "pneumothorax"\nenabled = false\n')
    assert [message.split()[0] for message in demonstrations(config)] == ["hemorrhage"]
    config.write_text(before + "[inference]\nshipped = false\n")
    assert demonstrations(config) == []

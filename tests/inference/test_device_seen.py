"""On what a worker runs, and that it remembers the GPU that it had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from inference.device_seen import MOST_LOSSES, device_for
from inference.errors import InferenceError


def machine(gpus: int) -> Callable[[str], str]:
    """Return what `choose_device` answers on a machine with so many GPUs."""

    def choose(setting: str) -> str:
        if setting == "auto":
            return "cuda:0" if gpus else "cpu"
        if setting == "cpu":
            return setting
        number = int(setting.partition(":")[2] or 0)
        if number >= gpus:
            raise InferenceError(f"inference.device is {setting}, but torch sees {gpus} GPU")
        return f"cuda:{number}"

    return choose


def never(_device: str) -> int:
    return 0


def test_a_gpu_is_used_where_there_is_one(tmp_path: Path) -> None:
    for setting in ("auto", "cuda", "cuda:0"):
        found = device_for(setting, tmp_path / "new", machine(1), never)
        assert (found.name, found.wanted, found.trouble) == ("cuda:0", None, None)


def test_a_machine_that_never_had_one_works_on_its_cpu_without_a_word(tmp_path: Path) -> None:
    found = device_for("auto", tmp_path, machine(0), never)
    assert (found.name, found.wanted, found.trouble) == ("cpu", None, None)
    with pytest.raises(InferenceError, match="torch sees 0 GPU"):
        device_for("cuda:0", tmp_path, machine(0), never)


@pytest.mark.parametrize("setting", ["auto", "cuda", "cuda:0"])
def test_one_that_had_one_works_on_its_cpu_and_says_so(tmp_path: Path, setting: str) -> None:
    device_for(setting, tmp_path, machine(1), never)
    found = device_for(setting, tmp_path, machine(0), never)
    assert (found.name, found.wanted) == ("cpu", "cuda:0")
    assert "was there before" in str(found.trouble)
    back = device_for(setting, tmp_path, machine(1), never)
    assert (back.name, back.trouble) == ("cuda:0", None)


def test_who_asks_for_the_cpu_is_told_nothing_of_gpus(tmp_path: Path) -> None:
    device_for("auto", tmp_path, machine(1), never)
    assert device_for("cpu", tmp_path, machine(0), never).trouble is None


def test_another_gpu_than_the_one_that_was_there_is_asked_for_in_vain(tmp_path: Path) -> None:
    device_for("cuda:0", tmp_path, machine(1), never)
    with pytest.raises(InferenceError):
        device_for("cuda:1", tmp_path, machine(1), never)


def test_a_gpu_that_is_lost_again_and_again_is_left_alone(tmp_path: Path) -> None:
    asked: list[str] = []

    def losses(device: str) -> int:
        asked.append(device)
        return MOST_LOSSES

    found = device_for("auto", tmp_path, machine(1), losses)
    assert (found.name, found.wanted) == ("cpu", "cuda:0")
    assert "lost 3 times within an hour" in str(found.trouble)
    assert asked == ["cuda:0"]
    assert device_for("auto", tmp_path, machine(1), lambda _: MOST_LOSSES - 1).name == "cuda:0"

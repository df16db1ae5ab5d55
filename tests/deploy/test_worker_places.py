"""Which workers a node has, by what the kernel says of GPUs and sockets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy import node, worker_parts
from deploy.settings import Settings, load
from deploy.worker_parts import WorkerPlace, worker_places
from inference.gpus import gpu_count, sockets


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def torch_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_parts, "version", lambda _name: "2.13.0+cu130")


def machine(root: Path, gpus: int = 0, nodes: tuple[str, ...] = ()) -> Path:
    for number in range(gpus):
        (root / f"proc/driver/nvidia/gpus/0000:{number:02x}:00.0").mkdir(parents=True)
    for number, cores in enumerate(nodes):
        folder = root / f"sys/devices/system/node/node{number}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(f"{cores}\n")
    return root


def settings(**inference: Any) -> Settings:
    return load(flags={"inference": inference})


def cores(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


# What the kernel says ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, 4),
        ("", 0),
        ("0", 1),
        ("2,0", 2),
        ("0, 1 ,3", 3),
        ("0,7,1", 1),
        ("-1", 0),
        ("0,-1,1", 1),
        ("0,0", 0),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,1", 2),
        ("MIG-8932f937-d72c-4106-c12f-20bd9faed9f6", 1),
        ("NoDevFiles", 0),
    ],
)
def test_gpus_are_counted_as_cuda_would(tmp_path: Path, visible: str | None, expected: int) -> None:
    root = machine(tmp_path, gpus=4)
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert gpu_count(root, environment) == expected


def test_a_machine_without_the_driver_has_none(tmp_path: Path) -> None:
    assert gpu_count(tmp_path, {}) == 0
    assert gpu_count(tmp_path, {"CUDA_VISIBLE_DEVICES": "0"}) == 0
    (tmp_path / "proc/driver/nvidia/gpus").mkdir(parents=True)
    assert gpu_count(tmp_path, {"CUDA_VISIBLE_DEVICES": "GPU-1"}) == 0


def test_cores_are_those_of_a_node_that_the_process_may_use(tmp_path: Path) -> None:
    root = machine(tmp_path, nodes=("0-3,8-11", "4-7,12-15"))
    every = frozenset(range(16))
    assert sockets(root, every) == (
        cores(0, 1, 2, 3, 8, 9, 10, 11),
        cores(4, 5, 6, 7, 12, 13, 14, 15),
    )
    assert sockets(root, cores(0, 1, 12)) == (cores(0, 1), cores(12))
    assert sockets(root, cores(5, 6)) == (cores(5, 6),)


@pytest.mark.parametrize("nodes", [(), ("nonsense",), ("0-1", "\n"), ("0",)])
def test_where_the_kernel_says_nothing_of_use_there_is_one_node(
    tmp_path: Path, nodes: tuple[str, ...]
) -> None:
    assert sockets(machine(tmp_path, nodes=nodes), cores(0, 1)) == (cores(0, 1),)


def test_nodes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    root = machine(tmp_path, nodes=tuple(str(number) for number in range(12)))
    assert sockets(root, frozenset(range(12))) == tuple(cores(n) for n in range(12))


# Which workers -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("torch_for_gpus")
def test_one_worker_for_each_gpu(tmp_path: Path) -> None:
    root = machine(tmp_path, gpus=3, nodes=("0", "1"))
    assert worker_places(settings(), root, {}) == tuple(
        WorkerPlace(number, f"cuda:{number}") for number in range(3)
    )
    some = {"CUDA_VISIBLE_DEVICES": "2"}
    assert worker_places(settings(), root, some) == (WorkerPlace(0, "cuda:0"),)
    two_each = worker_places(settings(workers=6), root, {})
    assert [one.device for one in two_each] == [f"cuda:{n}" for n in (0, 1, 2, 0, 1, 2)]
    assert worker_places(settings(device="cuda:1"), root, {}) == (WorkerPlace(0, "cuda:1"),)


def test_gpus_are_no_use_to_a_build_of_torch_for_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_parts, "version", lambda _name: "2.13.0+cpu")
    root = machine(tmp_path, gpus=3)
    assert [one.device for one in worker_places(settings(), root, {})] == ["auto"]


def test_one_worker_for_each_socket_and_several_share_its_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    root = machine(tmp_path, nodes=("0-3", "4-7"))
    for device in ("cpu", "auto"):
        found = worker_places(settings(device=device), root, {})
        assert [one.cores for one in found] == [cores(0, 1, 2, 3), cores(4, 5, 6, 7)]
    found = worker_places(settings(workers=3), root, {})
    assert [one.cores for one in found] == [cores(0, 1), cores(4, 5, 6, 7), cores(2, 3)]
    (one,) = worker_places(settings(workers=1), root, {})
    assert one.cores is None


@given(st.integers(1, 16), st.integers(1, 40), st.integers(1, 4))
def test_every_core_has_one_worker_unless_there_are_too_many(
    n_cores: int, workers: int, nodes: int
) -> None:
    places = tuple(frozenset(range(n, n_cores, nodes)) for n in range(min(nodes, n_cores)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(worker_parts, "sockets", lambda _root: places)
        found = worker_places(settings(workers=workers, device="cpu"))
    assert [one.number for one in found] == list(range(workers))
    given_out = [core for one in found for core in one.cores or ()]
    if workers > 1:
        assert len(given_out) == len(set(given_out))
    if workers > 1 and all(one.cores is not None for one in found) and workers >= len(places):
        assert set(given_out) == set(range(n_cores))


def test_the_processes_of_a_node_have_names_and_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    parts = node.worker_parts(settings(workers=2, device="cpu"))
    assert [part.name for part in parts] == ["worker", "worker-1"]
    assert [list(part.command[-3:]) for part in parts] == [
        ["worker", "--number", "0"],
        ["worker", "--number", "1"],
    ]
    assert [part.name for part in node.worker_parts(settings())] == ["worker"]


def test_a_worker_keeps_to_its_cores() -> None:
    before = os.sched_getaffinity(0)
    try:
        WorkerPlace(0, "cpu", frozenset({min(before)})).settle()
        assert os.sched_getaffinity(0) == {min(before)}
    finally:
        os.sched_setaffinity(0, before)
    WorkerPlace(0, "cpu").settle()
    assert os.sched_getaffinity(0) == before

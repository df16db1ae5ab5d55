"""The decode pool through real processes: order, bounds, crashes, hangs, what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from waiting import wait_for

from inference.decode_pool import DecodePool
from inference.decode_process import DecodeProcess
from inference.decode_settings import PoolSettings
from inference.decode_task import Asked, DecodeTask
from inference.errors import InferenceError, NotAnalysableError
from inference.image_file import open_image
from inference.input_spec import InputSpec
from inference.open_source import index_file
from inference.pixels import hounsfield_values
from inference.reading import NotAnalysed, SourceImage
from inference.windows import BRAIN

wait_until = partial(wait_for, every=0.01)


Write = Callable[..., Path]

CT = InputSpec("ct_slices", 64, (BRAIN,))


def task(path: Path, frame: int = 0, *, indexed: bool = False) -> DecodeTask:
    facts = index_file(path) if indexed else None
    return DecodeTask(SourceImage(1, "1.2", "1.2", "1.2", path, facts), frame, CT)


@pytest.fixture
def slices(write_image: Write, tmp_path: Path) -> list[Path]:
    """Ten slices, each of one value of its own."""
    made = []
    for number in range(10):
        path = write_image(np.full((40, 30), 100 + number, np.uint16), RescaleIntercept=-1024)
        made.append(path.rename(tmp_path / f"slice{number}.dcm"))
    return made


@pytest.fixture
def hanging(tmp_path: Path) -> Path:
    """A file that is never read to its end, whoever begins."""
    path = tmp_path / "hanging.dcm"
    os.mkfifo(path)
    return path


def taken(pool: DecodePool, tasks: list[DecodeTask]) -> list[Any]:
    """Return the first value of each image, or the code it is refused with."""
    return [
        str(one.code) if isinstance(one, NotAnalysableError) else float(one.values[0, 0])
        for one in pool.decode(tasks)
    ]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.parametrize("processes", [0, 2])
def test_images_come_in_their_order_and_an_error_stays_with_its_image(
    slices: list[Path], tmp_path: Path, processes: int
) -> None:
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(b"no DICOM file")
    tasks = [task(path, indexed=number % 2 == 0) for number, path in enumerate(slices)]
    tasks.insert(3, task(broken))
    with DecodePool(PoolSettings(processes, ahead=3)) as pool:
        expected = [number - 924.0 for number in range(10)]
        expected.insert(3, "undecodable")
        assert taken(pool, tasks) == expected
        assert len(pool.pids) == processes
        # The same processes go on.
        before = pool.pids
        assert taken(pool, tasks[:2]) == expected[:2]
        assert pool.pids == before
    assert not any(alive(pid) for pid in before)


def test_values_are_those_of_this_process(sample: Callable[[str], Path]) -> None:
    path = sample("CT_small.dcm")
    here = hounsfield_values(open_image(path))
    with DecodePool(PoolSettings(1)) as pool:
        (there,) = pool.decode([task(path)])
        assert isinstance(there, type(here))
        assert np.array_equal(there.values, here.values)
        assert there.values.dtype == here.values.dtype
        assert (there.notes, there.full_range) == (here.notes, here.full_range)


def test_no_more_are_taken_than_are_decoded_ahead(slices: list[Path]) -> None:
    asked: list[int] = []

    def tasks() -> Iterator[DecodeTask]:
        for number, path in enumerate(slices):
            asked.append(number)
            yield task(path)

    with DecodePool(PoolSettings(1, ahead=2)) as pool:
        for done, _ in enumerate(pool.decode(tasks())):
            assert len(asked) <= done + 2


def test_an_image_larger_than_the_memory_for_those_that_wait_is_read_alone(
    write_image: Write, slices: list[Path], tmp_path: Path
) -> None:
    large = write_image(np.full((200, 300), 500, np.uint16), RescaleIntercept=-1024)
    with DecodePool(PoolSettings(1, ahead=2, waiting_bytes=10_000)) as pool:
        told = taken(pool, [task(slices[0]), task(large), task(slices[1])])
    assert told == [-924.0, -524.0, -923.0]


def test_who_stops_early_finds_the_pool_as_it_was(slices: list[Path]) -> None:
    with DecodePool(PoolSettings(2, ahead=4)) as pool:
        stream = pool.decode([task(path) for path in slices])
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert taken(pool, [task(path) for path in reversed(slices)]) == [
            number - 924.0 for number in reversed(range(10))
        ]


def test_a_decoder_that_crashes_costs_its_image_alone(slices: list[Path], hanging: Path) -> None:
    with DecodePool(PoolSettings(1, ahead=2)) as pool:
        pool.start()
        (first,) = pool.pids

        def crash() -> None:
            with hanging.open("wb"):  # waits until somebody reads
                os.kill(first, signal.SIGSEGV)

        threading.Thread(target=crash, daemon=True).start()
        refused, after = list(pool.decode([task(hanging), task(slices[0])]))
        assert isinstance(refused, NotAnalysableError)
        assert refused.code == NotAnalysed.UNDECODABLE
        assert "signal 11" in refused.reason
        assert not isinstance(after, NotAnalysableError)
        assert float(after.values[0, 0]) == -924.0
        assert pool.pids != (first,)


def test_an_image_whose_process_somebody_else_ended_is_decoded_again(
    slices: list[Path], tmp_path: Path
) -> None:
    waits = tmp_path / "waits.dcm"
    os.mkfifo(waits)
    with DecodePool(PoolSettings(1)) as pool:
        pool.start()
        (first,) = pool.pids

        def end_it() -> None:
            with waits.open("wb"):  # waits until the process reads, which is ended meanwhile
                slices[3].replace(waits)  # before another one comes to read
                os.kill(first, signal.SIGKILL)
                wait_until(lambda: not alive(first))

        thread = threading.Thread(target=end_it)
        thread.start()
        assert taken(pool, [task(waits), task(slices[4])]) == [-921.0, -920.0]
        thread.join()


def test_processes_that_are_ended_again_and_again_are_no_fault_of_the_image(
    slices: list[Path], tmp_path: Path
) -> None:
    waits = tmp_path / "waits.dcm"
    os.mkfifo(waits)
    with DecodePool(PoolSettings(1)) as pool:
        pool.start()

        def end_them() -> None:
            for _ in range(2):
                with waits.open("wb"):  # waits until a process reads
                    (now,) = pool.pids
                    waits.unlink()
                    os.mkfifo(waits)  # for the next one: this one comes to its end with the block
                    os.kill(now, signal.SIGKILL)
                    wait_until(lambda now=now: now not in pool.pids)  # type: ignore[misc]

        thread = threading.Thread(target=end_them, daemon=True)
        thread.start()
        with pytest.raises(InferenceError, match="ended from outside") as raised:
            list(pool.decode([task(waits)]))
        assert not isinstance(raised.value, NotAnalysableError)
        thread.join()
        assert taken(pool, [task(slices[4])]) == [-920.0]


def test_all_threads_share_the_processes_fairly(slices: list[Path]) -> None:
    """Who asks for one image does not wait for the ninety that somebody else asked for before."""
    with DecodePool(PoolSettings(1, ahead=90)) as pool:
        many = pool.decode([task(path) for path in slices * 9])
        next(many)
        done: list[float] = []
        threads = [
            threading.Thread(target=lambda at=at: done.extend(taken(pool, [task(slices[at])])))
            for at in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        rest = list(many)
        assert sorted(done) == [-924.0, -923.0, -922.0, -921.0]
        assert len(rest) == 89


def test_each_thread_gets_its_own_images_in_their_order(slices: list[Path]) -> None:
    wanted = [number - 924.0 for number in range(10)]
    with DecodePool(PoolSettings(2, waiting_bytes=20_000)) as pool:
        found: dict[int, list[float]] = {}

        def read(at: int) -> None:
            turned = slices[at:] + slices[:at]
            found[at] = taken(pool, [task(path) for path in turned])

        threads = [threading.Thread(target=read, args=(at,)) for at in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == {at: wanted[at:] + wanted[:at] for at in range(5)}


def test_who_waits_in_one_stream_for_another_one_is_no_deadlock(slices: list[Path]) -> None:
    """One thread, no memory for images that wait: each stream has one all the same."""
    with DecodePool(PoolSettings(1, waiting_bytes=0)) as pool:
        streams = [pool.decode([task(path) for path in slices]) for _ in range(3)]
        for number, several in enumerate(zip(*streams, strict=True)):
            values = [
                one.values[0, 0] for one in several if not isinstance(one, NotAnalysableError)
            ]
            assert values == [number - 924.0] * 3


def test_shared_memory_is_bounded(write_image: Write) -> None:
    path = write_image(np.zeros((512, 512), np.uint16))
    with DecodePool(PoolSettings(2, waiting_bytes=4 << 20)) as pool:
        stream = pool.decode([task(path, indexed=False) for _ in range(32)])
        for _ in zip(range(8), stream, strict=False):
            time.sleep(0.02)
            assert pool.shared_bytes <= (4 << 20) + (1 << 20)
        del stream
    assert pool.shared_bytes == 0


def test_a_request_to_stop_that_reaches_all_processes_ends_no_decoder(slices: list[Path]) -> None:
    with DecodePool(PoolSettings(1)) as pool:
        assert taken(pool, [task(slices[0])]) == [-924.0]
        before = pool.pids
        os.kill(before[0], signal.SIGTERM)
        assert taken(pool, [task(slices[1])]) == [-923.0]
        assert pool.pids == before


def test_a_native_frame_is_read_here(slices: list[Path]) -> None:
    with DecodePool(PoolSettings(1)) as pool:
        assert taken(pool, [task(slices[0], indexed=True)]) == [-924.0]
        assert pool.pids == ()


def test_who_waits_is_told_when_the_pool_is_closed(slices: list[Path], hanging: Path) -> None:
    pool = DecodePool(PoolSettings(1))
    told: list[str] = []

    def read() -> None:
        try:
            list(pool.decode([task(hanging), task(slices[0])]))
        except InferenceError as error:
            told.append(str(error))

    thread = threading.Thread(target=read)
    thread.start()
    with hanging.open("wb"):
        pool.close()
        thread.join(60)
    assert told == ["the decode processes were ended"]


def test_a_decoder_that_hangs_is_ended(
    slices: list[Path], hanging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = DecodeProcess.ask

    def sooner(self: DecodeProcess, asked: Asked, seconds: float) -> None:
        # The other image has its whole minute, whatever else the machine does.
        ask(self, asked, 1.0 if asked.task.image.path == hanging else seconds)

    monkeypatch.setattr(DecodeProcess, "ask", sooner)
    with DecodePool(PoolSettings(1, ahead=2)) as pool:
        refused, after = list(pool.decode([task(hanging), task(slices[1])]))
        assert isinstance(refused, NotAnalysableError)
        assert "longer than 60 s" in refused.reason
        assert not isinstance(after, NotAnalysableError)


def test_a_process_that_ended_while_idle_is_replaced(slices: list[Path]) -> None:
    with DecodePool(PoolSettings(1)) as pool:
        assert taken(pool, [task(slices[0])]) == [-924.0]
        (first,) = pool.pids
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: not alive(first))
        wait_until(lambda: pool.pids not in ((), (first,)))  # at once, not when it is needed
        assert taken(pool, [task(slices[1])]) == [-923.0]


def test_an_image_that_needs_too_much_memory_is_refused(write_image: Write) -> None:
    large = write_image(np.zeros((6000, 6000), np.uint16))
    settings = PoolSettings(1, memory_bytes=200 << 20)
    with DecodePool(settings) as pool:
        (refused,) = pool.decode([task(large)])
    assert isinstance(refused, NotAnalysableError)
    assert "memory" in refused.reason


def test_a_process_that_cannot_start_is_no_endless_loop(
    slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with (
        DecodePool(PoolSettings(1)) as pool,
        pytest.raises(InferenceError, match="does not start"),
    ):
        list(pool.decode([task(slices[0])]))


def shared_memory(*pids: int) -> set[Path]:
    """Return what processes have in shared memory with a name; many others use it, too."""
    found: set[Path] = set()
    for pid in pids:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        found |= {Path(line.split(maxsplit=5)[5]) for line in lines if "/dev/shm/" in line}
    return found


PARENT = """
import sys
from pathlib import Path
from inference.decode_pool import DecodePool
from inference.decode_settings import PoolSettings
from inference.decode_task import DecodeTask
from inference.input_spec import InputSpec
from inference.reading import SourceImage
from inference.windows import BRAIN
pool = DecodePool(PoolSettings(2))
pool.start()
print(*pool.pids, flush=True)
spec = InputSpec("ct_slices", 64, (BRAIN,))
list(pool.decode([DecodeTask(SourceImage(1, "1", "1", "1", Path(sys.argv[1])), 0, spec)]))
"""


def test_nothing_is_left_of_a_killed_parent(hanging: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(hanging)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert parent.stdout is not None
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    with hanging.open("wb"):  # waits until one of them hangs in it; the other is idle
        shared = shared_memory(parent.pid, *children)
        parent.kill()
        parent.wait()
        parent.stdout.close()
        wait_until(lambda: not any(alive(pid) for pid in children))
    assert not any(path.exists() for path in shared)


def test_a_child_that_holds_the_interpreter_dies_with_its_parent() -> None:
    """A decoder in a loop of its own hears nothing; the kernel ends it all the same."""
    ours, lifeline = os.pipe()
    root = Path(__file__).parents[2]
    code = (
        "import sys; from inference.decode_child import die_with; import re; "
        f"die_with({ours}); print('on', flush=True); re.match('(a+)+$', 'a' * 60 + 'b')"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        pass_fds=(ours,),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"on\n"
    assert child.poll() is None
    os.close(ours)
    os.close(lifeline)
    assert child.wait(timeout=60) == -signal.SIGKILL
    child.stdout.close()

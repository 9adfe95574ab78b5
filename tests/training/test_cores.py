"""Workers as processes of their own: their cores are read from /proc, what they keep from the count of page faults."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
pytestmark = pytest.mark.skipif(len(ALLOWED) < 2, reason="needs two cores and their affinity")

CLAIM = """
import sys, threading
from search.training import device as cores
claimed = cores.pin(int(sys.argv[1]))
def allowed(thread):
    (line,) = (l for l in open(f"/proc/self/task/{thread}/status") if l.startswith("Cpus_allowed_list"))
    return line.split()[1]
later = []
thread = threading.Thread(target=lambda: later.append(allowed(threading.get_native_id())))
thread.start(); thread.join()
print(",".join(map(str, sorted(claimed))) or "none", allowed(threading.get_native_id()), later[0], flush=True)
sys.stdin.readline()
"""


class Worker:
    """A process that has claimed its cores and lives until it is ended."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(threads)],
            env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        claimed, itself, later = self.process.stdout.readline().split()
        self.claimed = set() if claimed == "none" else {int(core) for core in claimed.split(",")}
        self.itself, self.later = listed(itself), listed(later)


def listed(text: str) -> set[int]:
    """`0-2,5` as numbers, the kernel's notation."""
    ends = [part.partition("-") for part in text.split(",")]
    return {core for low, _, high in ends for core in range(int(low), int(high or low) + 1)}


@contextmanager
def workers(folder: Path, *threads: int) -> Iterator[list[Worker]]:
    """Workers that live at the same time, started one after another."""
    started: list[Worker] = []
    try:
        started += [Worker(folder, number) for number in threads]
        yield started
    finally:
        for worker in started:
            worker.process.kill()
            worker.process.communicate()


def test_every_worker_has_a_core_of_its_own(tmp_path: Path) -> None:
    """The last one, which finds none free, is not pinned; a core is free again when its worker is killed."""
    with workers(tmp_path, *[1] * len(ALLOWED), 1) as (*started, unpinned):
        assert sorted(next(iter(w.claimed)) for w in started) == ALLOWED
        for worker in started:
            assert worker.claimed == worker.itself == worker.later, "as the kernel sees it, also for a later thread"
        assert unpinned.claimed == set()
        assert unpinned.itself == unpinned.later == set(ALLOWED)
        started[0].process.kill()
        started[0].process.communicate()
        with workers(tmp_path, 1) as (successor,):
            assert successor.claimed == started[0].claimed
    assert (tmp_path / f"resnet-search-{os.getuid()}").stat().st_mode & 0o777 == 0o700, "for its user alone"


def test_two_threads_have_two_cores_or_none(tmp_path: Path) -> None:
    with workers(tmp_path, 2) as (worker,):
        assert worker.claimed == worker.itself == set(ALLOWED[:2])
    with workers(tmp_path, 1, *[2] * (len(ALLOWED) // 2)) as started:
        assert started[0].claimed == {ALLOWED[0]}
        claimed = [core for worker in started for core in worker.claimed]
        assert len(claimed) == len(set(claimed)), "no core twice"
        assert started[-1].claimed == set(), "a half of the first group is taken, so one worker is left without"
        assert started[-1].itself == set(ALLOWED)
    with workers(tmp_path, len(ALLOWED) + 1) as (worker,):
        assert worker.claimed == set()


def test_a_group_that_was_not_to_be_had_is_left_whole(tmp_path: Path) -> None:
    """The second core of the group is taken: the first one is given back."""
    folder = tmp_path / f"resnet-search-{os.getuid()}"
    folder.mkdir(mode=0o700)
    holder = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(folder / f"core-{ALLOWED[1]}.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with workers(tmp_path, 2, 1) as (pair, single):
            assert not pair.claimed & set(ALLOWED[:2])
            assert single.claimed == {ALLOWED[0]}
        process.kill()


@pytest.mark.parametrize("how", ["open to others", "a link"])
def test_a_folder_that_others_may_write_is_not_used(how: str, tmp_path: Path) -> None:
    folder = tmp_path / f"resnet-search-{os.getuid()}"
    if how == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to("elsewhere")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    with workers(tmp_path, 1) as (worker,):
        assert worker.claimed == set()
        assert worker.itself == set(ALLOWED)
    assert list(folder.iterdir()) == []


FAULTS = """
import ctypes, resource, sys
from search.training import device as cores
if sys.argv[1] == "keep":
    assert cores.keep_freed_memory()
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
c.memset.argtypes, c.free.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t], [ctypes.c_void_p]
def step():
    buffers = [c.malloc(2**23) for _ in range(8)]
    for buffer in buffers:
        c.memset(buffer, 1, 2**23)
    for buffer in buffers:
        c.free(buffer)
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Page faults of five steps that each fill and free eight buffers of 8 MiB."""
    ran = subprocess.run(
        [sys.executable, "-c", FAULTS, how], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout)


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="glibc's")
def test_freed_memory_is_used_again() -> None:
    """5 x 64 MiB are 81,920 pages of 4 KiB, or 160 of 2 MiB where the system hands out huge ones unasked."""
    assert faults("keep") < 40
    assert faults("let go") >= 160

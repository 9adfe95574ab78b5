"""A disk that becomes full while a study runs, and one that cannot be written at all."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import concluded
from tests.support.empty_database import tracked
from tests.support.journal import trials
from tests.support.study_process import command, run, start, wait_until
from tests.support.whole import assert_whole

pytestmark = [
    pytest.mark.long,
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a file system"),
]
TRAIN = {"epochs": 4, "batch_size": 16, "flip": False}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A study's folder on a file system of its own, of 64 MB."""
    results = tmp_path / "results"
    results.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(results)], capture_output=True)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
    yield results
    subprocess.run(["umount", "--lazy", str(results)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def test_a_disk_that_fills_up_halts_the_study_and_one_with_room_continues_it(disk: Path) -> None:
    """Filled to the last byte once a trial has ended, in the middle of another; then another disk's size."""
    folder = disk.parent
    arguments = command(tracked(folder), "--trials", "4", "--scheduler", "none", train=TRAIN)
    process, log = start(folder, arguments)
    wait_until(lambda: "[1/4]" in log.read_text(), process, log)
    known = (disk / "tiny" / "optuna.journal").read_bytes()
    with (disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        while True:  # the study writes meanwhile
            ballast.write(bytes(1 << 16))
    assert process.wait(240) == 1, log.read_text()
    *_, last = log.read_text().splitlines()
    assert last.startswith("error: "), log.read_text()
    assert last.endswith(
        " cannot be written (No space left on device); make room, and run the same command again: it continues"
    )
    assert str(disk) in last
    assert "Traceback" not in log.read_text()

    remount(disk, "size=128m")
    ended = run(folder, arguments)
    assert ended.returncode == 0, ended.stderr
    assert (disk / "tiny" / "optuna.journal").read_bytes().startswith(known)
    assert_whole(folder, 4)


def filled(disk: Path, left: int, writer: int) -> Path:
    """A file that leaves so many bytes; the process `writer` writes nothing meanwhile."""
    os.kill(writer, signal.SIGSTOP)
    room = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with (disk / "ballast").open("wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, room - left)
    os.kill(writer, signal.SIGCONT)
    return disk / "ballast"


@pytest.mark.nightly
def test_a_disk_that_fills_up_at_the_end(disk: Path) -> None:
    """Before the report, then before the export, with room for records alone: each time it is said, then mended."""
    folder, study, arguments = disk.parent, disk / "tiny", concluded.arguments(disk.parent)

    def trained() -> bool:
        return sum(t.state.is_finished() for t in trials(study, finals=True)) == concluded.TOP * concluded.SEEDS

    def reported() -> bool:
        return (study / "report.html").exists()

    for sign in (trained, reported):
        process, log = start(folder, arguments)
        wait_until(sign, process, log, pause=0.002)
        ballast = filled(disk, 150_000, process.pid)
        assert process.wait(120) == 1, log.read_text()
        *_, last = log.read_text().splitlines()
        remedy = "cannot be written (No space left on device); make room, and run the same command again: it continues"
        assert last == f"error: {disk}/tiny {remedy}", log.read_text()
        assert "Traceback" not in log.read_text()
        assert (disk / "tiny" / "report.html").exists() is (sign is reported)
        assert not list((disk / "tiny").glob("*champion*")) + list((disk / "tiny").glob(".*.tmp"))
        ballast.unlink()
    ended = run(folder, arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    concluded.assert_concluded(folder)


def test_a_disk_that_nobody_may_write_is_refused(disk: Path) -> None:
    remount(disk, "ro")
    refused = run(disk.parent, command(disk.parent))
    assert refused.returncode == 2, refused.stdout
    (line,) = refused.stderr.splitlines()
    assert line == "error: output = 'results' cannot be written (Read-only file system); choose another --output"

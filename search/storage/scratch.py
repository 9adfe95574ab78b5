"""Temporary folders for this user alone. The process that makes one locks it, so what a dead process left is known."""

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

PREFIX = "resnet-search-"


def home(parent: Path | None = None) -> Path | None:
    """The folder of this user in `parent`, by default the system's for temporary files; made where it is missing.

    None where it cannot be made, or where another user made it first.
    """
    folder = (parent or Path(tempfile.gettempdir())) / f"{PREFIX}{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    return folder if _private(found) else None


@contextmanager
def folder(parent: Path | None = None) -> Generator[Path]:
    """A new folder in the `home` of `parent`, removed at the end; that of a killed process is left to `remove_dead`."""
    mine = home(parent)
    with _locked(mine):  # so that `remove_dead` does not see it before it has a lock of its own
        made = Path(tempfile.mkdtemp(prefix="", dir=mine) if mine else tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = _lock(made, wait=True)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)  # what a process that is just ending adds to it, the next start removes
        if lock is not None:
            os.close(lock)


def remove_dead(parent: Path | None = None) -> None:
    """Removes the folders in the `home` of `parent` whose processes are gone, and ends what these have left running."""
    mine = home(parent)
    if mine is None:
        return
    with _locked(mine):
        found = [path for path in mine.iterdir() if path.is_dir() and not path.is_symlink()]
        dead = [(path, lock) for path in found if (lock := _lock(path, wait=False)) is not None]
    for path, lock in dead:
        end_writers(path)
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def end_writers(folder: Path) -> None:
    """Kills the processes of this user, but for this one, that have a file below `folder` open for writing."""
    place = folder.resolve()
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has just ended, or is not ours
            if process.pid != os.getpid() and process.uids().real == os.getuid() and _writes(process, place):
                process.kill()


def _writes(process: psutil.Process, place: Path) -> bool:
    files = process.open_files()
    return any(Path(f.path).is_relative_to(place) and getattr(f, "mode", "w") != "r" for f in files)  # macOS: no mode


def _private(found: os.stat_result) -> bool:
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


@contextmanager
def _locked(path: Path | None) -> Generator[None]:
    lock = None if path is None else _lock(path, wait=True)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _lock(path: Path, wait: bool) -> int | None:
    """An open file that holds the lock of a folder; None where a living process has it, or there are no locks."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return file
    os.close(file)
    return None

"""Temporary folders: what a killed process leaves is removed by the next start, and nothing else is."""

import subprocess
import sys
import threading
from pathlib import Path

import psutil

from search.storage import scratch
from tests.support.study_process import wait_until_ended

HOLD = """
import subprocess, sys
from pathlib import Path
from search.storage import scratch
with scratch.folder(Path(sys.argv[1])) as folder, (folder / "log").open("w") as log:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=log)
    print(folder, sleeper.pid, flush=True)
    input()
"""


class Holder:
    """A process with a folder, and a child that writes in it."""

    def __init__(self, parent: Path) -> None:
        command = [sys.executable, "-c", HOLD, str(parent)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        folder, child = self.process.stdout.readline().split()
        self.folder, self.child = Path(folder), psutil.Process(int(child))

    def end(self) -> None:
        """At once, as `kill -9` does."""
        self.process.kill()
        self.process.communicate()


def test_what_a_killed_process_left_is_removed_and_ended(tmp_path: Path) -> None:
    dead, living = Holder(tmp_path), Holder(tmp_path)
    dead.end()
    assert (dead.folder / "log").exists()
    with (dead.folder / "log").open() as file:
        reader = subprocess.Popen(["sleep", "600"], stdin=file)
        scratch.remove_dead(tmp_path)
        assert not dead.folder.exists()
        wait_until_ended([dead.child])
        assert reader.poll() is None, "who only reads there is somebody else"
        reader.kill()
        reader.wait()
    assert (living.folder / "log").exists()
    assert living.child.is_running()
    living.end()
    living.child.kill()


def test_nothing_but_folders_is_removed_and_no_link_is_followed(tmp_path: Path) -> None:
    with scratch.folder(tmp_path) as folder:
        home = folder.parent
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "precious").mkdir(parents=True)
    (home / "link").symlink_to(elsewhere)
    (home / "core-0.lock").touch()
    (home / "dead").mkdir()
    (home / "dead" / "link").symlink_to(elsewhere)
    scratch.remove_dead(tmp_path)
    assert {path.name for path in home.iterdir()} == {"link", "core-0.lock"}
    assert (elsewhere / "precious").is_dir()


def test_a_folder_is_for_its_user_alone_and_gone_in_the_end(tmp_path: Path) -> None:
    with scratch.folder(tmp_path) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert folder.parent.stat().st_mode & 0o777 == 0o700
        (folder / "file").touch()
    assert list(tmp_path.rglob("file")) == []


def test_a_home_that_others_may_write_is_left_alone(tmp_path: Path) -> None:
    """Who made it first could put folders into it; a folder of our own is made beside it."""
    with scratch.folder(tmp_path) as folder:
        home = folder.parent
    home.chmod(0o777)
    (home / "of others").mkdir()
    with scratch.folder(tmp_path) as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
        scratch.remove_dead(tmp_path)
    assert (home / "of others").is_dir()


def test_a_folder_that_is_being_made_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    over = threading.Event()

    def remove() -> None:
        while not over.is_set():
            scratch.remove_dead(tmp_path)

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        for _ in range(200):
            with scratch.folder(tmp_path) as folder:
                assert folder.is_dir()
    finally:
        over.set()
        remover.join()

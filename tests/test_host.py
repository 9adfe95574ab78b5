"""A Ray of our own that does not start, and one that is left."""

import os
import sys
from pathlib import Path

import pytest

from tests.study_process import command, run

LEAVE = """
import threading
from search import host
from search.study_sections import ResourceSpec, SearchSpec

host.connect(ResourceSpec(), SearchSpec())
import ray

held = [[ray.put(n)] for n in range(20_000)]
for one in held:
    one.append(one)
begun = threading.Event()

def drop():
    while held:
        held.pop()
        cycles = [[] for _ in range(800)]  # more than Python allocates between two collections
        for cycle in cycles:
            cycle.append(cycle)
        begun.set()

thread = threading.Thread(target=drop)
thread.start()
begun.wait()
host.leave()
thread.join()
print("goes on")
"""


@pytest.mark.slow
def test_the_process_goes_on_when_ray_is_left(tmp_path: Path) -> None:
    """While another of its threads collects garbage in which Ray's references are."""
    ended = run(tmp_path, [sys.executable, "-c", LEAVE])
    assert (ended.returncode, ended.stdout) == (0, "goes on\n"), ended.stderr


@pytest.mark.slow
@pytest.mark.long
def test_ray_that_does_not_start_is_told_in_one_sentence(tmp_path: Path) -> None:
    """Ray's control service ends at once, for there is no such storage; Ray waits for it for half a minute."""
    ended = run(tmp_path, command(tmp_path, "--trials", "1"), os.environ | {"RAY_gcs_storage": "none"})
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: Ray did not start on this machine (")
    assert ended.stderr.endswith("run the same command again: it continues\n")
    assert ended.stderr.count("\n") == 1

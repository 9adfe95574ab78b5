"""Ray is left while another thread of the process collects garbage in which Ray's references are."""

import os
import subprocess
import sys

import pytest

from tests.study_process import ROOT

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
def test_the_process_goes_on() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", LEAVE], env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "goes on\n"), ended.stderr

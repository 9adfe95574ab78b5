"""A Ray of our own: what others can see of it, one that does not start, and one that is left."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import psutil
import pytest

from search.errors import Halted
from search.execution import host
from search.spec import ResourceSpec, SearchSpec
from tests.support.study_process import ROOT, command, run, wait_until_ended

LEAVE = """
import threading
from search.execution import host as host
from search.spec.sections import ResourceSpec, SearchSpec

begun = threading.Event()

def drop():
    while held:
        held.pop()
        cycles = [[] for _ in range(800)]  # more than Python allocates between two collections
        for cycle in cycles:
            cycle.append(cycle)
        begun.set()

with host.connected(ResourceSpec(), SearchSpec()):
    import ray

    held = [[ray.put(n)] for n in range(20_000)]
    for one in held:
        one.append(one)
    thread = threading.Thread(target=drop)
    thread.start()
    begun.wait()
thread.join()
print("goes on")
"""

TWICE = """
import json, os, psutil
from pathlib import Path
from search.execution import host as host
from search.spec.sections import ResourceSpec, SearchSpec

def closed(path):
    return any(p.stat().st_mode & 0o077 == 0 and p.stat().st_uid == os.getuid() for p in Path(path).parents)

for _ in range(2):
    with host.connected(ResourceSpec(), SearchSpec()):
        import ray

        assert ray.get(ray.remote(lambda: 6 * 7).remote()) == 42
        family = [psutil.Process(), *psutil.Process().children(recursive=True)]
        sockets = {c.laddr for p in family for c in p.net_connections("unix") if c.laddr.startswith("/")}
        files = {f.path for p in family for f in p.open_files() if f.mode != "r"}
        seen = {path: closed(path) for path in sockets | files}
        print(json.dumps([os.environ["RAY_AUTH_TOKEN"], seen, [p.name() for p in family]]), flush=True)
print(json.dumps(os.environ.get("RAY_AUTH_TOKEN")))
"""

HELD = """
from search.execution import host as host
from search.spec.sections import ResourceSpec, SearchSpec

with host.connected(ResourceSpec(), SearchSpec()):
    print("connected", flush=True)
    input()
"""


@pytest.mark.slow
@pytest.mark.long
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


@pytest.mark.parametrize(
    "part", ["ray._private.node.Node.start_monitor", "ray._private.state.actors", "ray._raylet.persist_port"]
)
def test_a_ray_without_a_part_that_is_needed_is_told_in_one_sentence(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything of it is started."""
    monkeypatch.delattr(part)
    before = psutil.Process().children(recursive=True)
    with patch.dict(os.environ), pytest.raises(Halted) as told, host.connected(ResourceSpec(), SearchSpec()):
        pass
    assert re.fullmatch(rf"Ray \S+ has no {re.escape(part)}, which trials need here; install Ray 2.60", str(told.value))
    assert psutil.Process().children(recursive=True) == before


@pytest.mark.slow
def test_other_users_see_nothing_of_our_ray(tmp_path: Path) -> None:
    """Its sockets and logs are below folders that nobody else can enter, and gone at the end; its token is on no disk.

    Nothing of it serves a dashboard. Twice in one process, whose user has another cluster's token in the environment.
    """
    shell = os.environ | {"HOME": str(tmp_path), "RAY_AUTH_TOKEN": "a cluster's"}
    ended = run(tmp_path, [sys.executable, "-c", TWICE], shell)
    assert ended.returncode == 0, ended.stderr
    (first, seen, names), (second, again, _), after = map(json.loads, ended.stdout.splitlines())
    assert {"raylet", "gcs_server", "cat"} <= {*names}
    assert [name for name in names if "ashboard" in name] == []
    assert (after, len({first, second, "a cluster's"})) == ("a cluster's", 3)
    for paths in (seen, again):
        assert {"plasma_store", "raylet.out", "gcs_server.out"} <= {Path(path).name for path in paths}
        assert [path for path, closed in paths.items() if not closed] == []
        assert [path for path in paths if Path(path).exists()] == []
    assert not (tmp_path / ".ray").exists()


@pytest.mark.slow
@pytest.mark.long
def test_what_a_killed_process_left_of_its_ray_ends_with_the_next_start(tmp_path: Path) -> None:
    """Some of Ray's processes end with it, some do not; its sockets and logs stay."""
    shell = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", HELD], env=shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "connected\n"
        family = psutil.Process(killed.pid).children(recursive=True)
        logs = {Path(f.path) for p in family for f in p.open_files() if f.path.endswith("raylet.out")}
        killed.kill()
    assert [path.exists() for path in logs] == [True]
    ended = subprocess.run([sys.executable, "-c", HELD], env=shell, input="\n", capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "connected\n"), ended.stderr
    assert [path.exists() for path in logs] == [False]
    wait_until_ended(family)


def test_the_token_of_a_cluster_is_closed_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ray get-auth-token --generate` makes it readable for all; what is elsewhere behind a link stays as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    host.close_token()  # there is none
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("a cluster's")
    token.chmod(0o644)
    host.close_token()
    assert (token.read_text(), token.stat().st_mode & 0o777) == ("a cluster's", 0o600)
    mounted = token.rename(tmp_path / "mounted")
    mounted.chmod(0o644)
    token.symlink_to(mounted)
    host.close_token()
    assert mounted.stat().st_mode & 0o777 == 0o644

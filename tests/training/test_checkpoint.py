"""Checkpoints: bit-equal, whole or not there, checked when read."""

import hashlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from search import training
from search.training import Checkpoint, Epoch, Writer, checkpoint
from search.training.loop import State

ROOT = Path(__file__).parents[2]
HISTORY = [{"epoch": 1, "metrics": {"val/error": 12.5}}]


def made(epoch: int) -> Checkpoint:
    """Every kind of value that a network has: numbers without a short decimal, signed zero, infinities, counters."""
    generator = torch.Generator().manual_seed(epoch)
    odd = torch.tensor([0.1, -0.0, float("inf"), float("nan"), 1e-45])
    weights = {"conv.weight": torch.randn(4, 3, 3, 3, generator=generator), "odd": odd, "count": torch.tensor(epoch)}
    momentum = {"conv.weight": torch.randn(4, 3, 3, 3, generator=generator)}
    return Checkpoint(State(epoch, weights, momentum), HISTORY * epoch)


def same(one: Checkpoint, other: Checkpoint) -> bool:
    def bits(made: Checkpoint) -> list[tuple[object, ...]]:
        tensors = made.state.weights.items(), made.state.momentum.items()
        return [(name, t.dtype, t.shape, t.numpy().tobytes()) for of in tensors for name, t in sorted(of)]

    return (bits(one), one.state.epoch, one.history) == (bits(other), other.state.epoch, other.history)


def read(folder: Path) -> Checkpoint:
    found = training.latest(folder)
    assert found is not None
    return found


def test_round_trip_is_bit_equal(tmp_path: Path) -> None:
    assert training.latest(tmp_path / "none") is None
    truncated(Path(checkpoint.write(tmp_path / "damaged", made(1))) / "model.safetensors")
    assert training.latest(tmp_path / "damaged") is None
    path = checkpoint.write(tmp_path / "new" / "0001", made(3))
    assert same(read(tmp_path / "new" / "0001"), made(3))
    assert [str(p) for p in (tmp_path / "new" / "0001").iterdir()] == [path]


def test_two_are_kept(tmp_path: Path) -> None:
    for epoch in (1, 2, 9, 10, 11):
        checkpoint.write(tmp_path, made(epoch))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["epoch-000010", "epoch-000011"]
    assert same(read(tmp_path), made(11))


def truncated(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def one_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)


def zeros(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def assert_set_aside(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of the checkpoints of epochs 4 and 5 the last one."""
    with caplog.at_level(logging.WARNING):
        assert same(read(folder), made(4))
    assert "epoch-000005 is damaged" in caplog.text
    assert sorted(p.name for p in folder.iterdir()) == ["epoch-000004", "epoch-000005.damaged"]
    checkpoint.write(folder, made(5))  # the epoch trained again
    assert same(read(folder), made(5))


@pytest.mark.parametrize("damage", [truncated, one_bit, zeros, Path.unlink])
@pytest.mark.parametrize("name", ["model.safetensors", "momentum.safetensors", "state.json", "SHA256SUMS"])
def test_damaged_is_set_aside(
    name: str, damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint.write(tmp_path, made(4))
    damage(Path(checkpoint.write(tmp_path, made(5))) / name)
    assert_set_aside(tmp_path, caplog)


def header(text: bytes) -> bytes:
    """A safetensors file that has only this header: its length, 8 bytes, and itself."""
    return len(text).to_bytes(8, "little") + text


WRONG = {  # files of other content, under the checksums of that content
    "not safetensors": {"model.safetensors": b"\x00" * 64},
    "empty": {"momentum.safetensors": b""},
    "header that is deep": {"model.safetensors": header(b'{"a":' * 100_000)},
    "numbers that torch has not": {
        "model.safetensors": header(b'{"a":{"dtype":"F8_E8M0","shape":[1],"data_offsets":[0,1]}}') + b"0"
    },
    "more than the file holds": {
        "model.safetensors": header(b'{"a":{"dtype":"F32","shape":[9999999999],"data_offsets":[0,4]}}') + b"0000"
    },
    "index that is a list": {"state.json": b"[1]"},
    "index that is a number": {"state.json": b"1"},
    "index that is deep": {"state.json": b"[" * 100_000},
    "index without epochs": {"state.json": b'{"epoch": "5", "compiled": false, "history": []}'},
    "history that is none": {"state.json": b'{"epoch": 5, "compiled": false, "history": [5]}'},
    "name with a path": {"../epoch-000004/state.json": json.dumps({"epoch": 5}).encode()},
    "absolute name": {"/etc/hostname": b""},
    "unknown name": {"other.safetensors": save({"a": torch.ones(1)})},
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_content_with_right_checksums_is_set_aside(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint.write(tmp_path, made(4))
    path = Path(checkpoint.write(tmp_path, made(5)))
    contents = {file.name: file.read_bytes() for file in path.iterdir() if file.name != "SHA256SUMS"} | WRONG[name]
    for file, data in WRONG[name].items():
        if "/" not in file:
            (path / file).write_bytes(data)
        elif Path(path / file).exists():
            contents[file] = (path / file).read_bytes()
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {file}\n" for file, data in contents.items())
    (path / "SHA256SUMS").write_text(sums)
    assert_set_aside(tmp_path, caplog)


@pytest.mark.parametrize("file", ["SHA256SUMS", "model.safetensors", "state.json"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_link_or_a_pipe_is_no_file_of_a_checkpoint(kind: str, file: str, tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "0001", made(4))
    path = Path(checkpoint.write(tmp_path / "0001", made(5))) / file
    if kind == "link":
        path.symlink_to(path.rename(tmp_path / "elsewhere"))
    else:
        path.unlink()
        os.mkfifo(path)
    assert same(read(tmp_path / "0001"), made(4))


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.training import test_checkpoint as t
moment = calls = 0

def watch(event, arguments):
    global calls
    if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
        calls += 1
        if calls == moment:
            os.kill(os.getpid(), signal.SIGKILL)

third = t.made(3)
sys.addaudithook(watch)
while True:
    moment += 1
    folder = Path(sys.argv[1]) / str(moment)
    calls = 1000  # not yet
    t.checkpoint.write(folder, t.made(1))
    t.checkpoint.write(folder, t.made(2))
    child = os.fork()
    if child == 0:
        calls = 0
        t.checkpoint.write(folder, third)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        break
print(moment)
"""


def test_killed_while_it_writes(tmp_path: Path) -> None:
    """SIGKILL at each of the system calls that make, fill and name a checkpoint: one that is whole is there."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    moments = int(process.stdout)
    assert moments > 9  # a folder, four files, a name, and the removal of the first checkpoint with its files
    found = []
    for moment in range(1, moments + 1):
        folder = tmp_path / str(moment)
        found.append(read(folder).state.epoch)
        assert same(read(folder), made(found[-1]))
        checkpoint.write(folder, made(4))
        assert same(read(folder), made(4))
        assert len([*folder.glob("epoch-*")]) == 2
    assert found == sorted(found)
    assert set(found) == {2, 3}


def limit(size: int) -> None:
    """No file of this process may grow beyond `size` bytes; the signal that would end it is not sent."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_disk_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, made(1))
    limit(100)
    try:
        with pytest.raises(OSError, match="too large"):
            checkpoint.write(tmp_path, made(2))
    finally:
        limit(resource.RLIM_INFINITY)
    assert [p.name for p in tmp_path.iterdir()] == ["epoch-000001"]
    assert same(read(tmp_path), made(1))


def ended(epoch: int) -> Epoch:
    """An epoch after which the state is that of `made`."""
    return Epoch(0, epoch, {}, False, torch.nn.Identity(), lambda: lambda: made(epoch).state)


def test_a_writer_writes_the_newest_state_when_it_is_asked_to_or_time_has_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Writer(tmp_path) as writer:
        for epoch in (1, 2):
            writer.keep(ended(epoch), made(epoch).history)
        assert not list(tmp_path.iterdir())
        writer.flush()
        writer.flush()
        assert same(read(tmp_path), made(2))
        monkeypatch.setattr(checkpoint, "WRITE_SECONDS", 0.0)
        writer.keep(ended(3), made(3).history)
    assert same(read(tmp_path), made(3))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["epoch-000002", "epoch-000003"]


def test_a_writer_does_not_wait_and_copies_nothing_while_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy of the first epoch takes until the third has ended."""
    monkeypatch.setattr(checkpoint, "WRITE_SECONDS", 0.0)
    copied, begun = threading.Event(), list[int]()

    def slow(epoch: int) -> Epoch:
        def begin() -> Callable[[], State]:
            begun.append(epoch)
            return lambda: made(epoch).state if copied.wait(60) else made(0).state

        return Epoch(0, epoch, {}, False, torch.nn.Identity(), begin)

    history = made(3).history
    with Writer(tmp_path) as writer:
        for epoch in (1, 2, 3):
            writer.keep(slow(epoch), history[:epoch])
        history.clear()  # what was kept is as it was
        assert begun == [1]
        assert not list(tmp_path.iterdir())
        copied.set()
        writer.flush()
        assert begun == [1, 3]
    assert same(read(tmp_path), made(3))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["epoch-000001", "epoch-000003"]


@pytest.mark.parametrize("call", ["keep", "flush"])
def test_what_fails_in_the_writer_is_raised_by_the_next_call(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "WRITE_SECONDS", 0.0)
    checkpoint.write(tmp_path, made(1))
    limit(100)
    try:
        with Writer(tmp_path) as writer:
            writer.keep(ended(2), made(2).history)
            assert writer._writing is not None
            wait([writer._writing])
            with pytest.raises(OSError, match="too large"):
                writer.keep(ended(3), made(3).history) if call == "keep" else writer.flush()
    finally:
        limit(resource.RLIM_INFINITY)
    assert [p.name for p in tmp_path.iterdir()] == ["epoch-000001"]
    assert same(read(tmp_path), made(1))


def test_weights_of_an_epoch_are_those_of_its_checkpoint_alone(tmp_path: Path) -> None:
    path = checkpoint.write(tmp_path, made(2))
    checkpoint.write(tmp_path, made(4))
    assert training.validated_weights(tmp_path, 2) == f"{path}/model.safetensors"
    assert training.validated_weights(tmp_path, 3) is None


def test_an_epoch_that_another_worker_has_written_stays(tmp_path: Path) -> None:
    path = Path(checkpoint.write(tmp_path, made(2)))
    before = (path / "state.json").stat().st_ino
    assert checkpoint.write(tmp_path, made(2)) == str(path)
    assert (path / "state.json").stat().st_ino == before
    assert [p.name for p in tmp_path.iterdir()] == ["epoch-000002"]


def test_what_a_killed_worker_had_begun_is_removed_by_the_next_one_alone(tmp_path: Path) -> None:
    """Who only reads may do so while a worker writes."""
    checkpoint.write(tmp_path, made(1))
    begun = tmp_path / ".epoch-000002-0a1b.part"
    begun.mkdir()
    (begun / "model.safetensors").write_bytes(b"half")
    assert same(read(tmp_path), made(1))
    assert begun.is_dir()
    with Writer(tmp_path):
        assert [p.name for p in tmp_path.iterdir()] == ["epoch-000001"]


def test_the_checksums_are_those_of_coreutils(tmp_path: Path) -> None:
    """Every file but the list itself is in it, and `sha256sum` agrees."""
    path = Path(checkpoint.write(tmp_path, made(1)))
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=path, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    files = ["model.safetensors", "momentum.safetensors", "state.json"]
    assert checked.stdout.splitlines() == [f"{name}: OK" for name in files]
    assert sorted(p.name for p in path.iterdir()) == ["SHA256SUMS", *files]

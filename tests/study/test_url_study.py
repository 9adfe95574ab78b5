"""A study that is kept in an object store: killed, and continued from the store alone."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import psutil
import pytest

from search import training
from search.errors import Halted
from search.storage import Remote, Replica, replica
from search.training import Checkpoint, Writer, checkpoint
from tests.support.mlflow_server import Server
from tests.support.object_store import BUCKET, object_store
from tests.support.study_process import command, run, start, wait_until
from tests.support.whole import assert_all_there
from tests.training.test_checkpoint import ended, made, same


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with object_store(tmp_path_factory.mktemp("store")) as url:
        yield url


@pytest.fixture
def place(store: str, tmp_path: Path) -> str:
    """A URL below which nothing is yet."""
    return f"{store}/{tmp_path.name}"


@pytest.mark.slow
@pytest.mark.long
def test_killed_and_continued_on_another_machine(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first machine had on its own disk is gone: nothing is lost or doubled, checkpoints included."""
    server = Server(tmp_path)
    server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    arguments = [
        *command(tmp_path, "--trials", "4", "--scheduler", "none", train={"epochs": 8, "batch_size": 4, "flip": False})
    ]
    arguments[arguments.index("results")] = place
    try:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "first"))
        process, log = start(tmp_path, arguments)
        wait_until(lambda: "[1/4]" in log.read_text(), process, log)
        process.kill()
        process.wait()
        shutil.rmtree(tmp_path / "first")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "second"))
        ended = run(tmp_path, arguments)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "continued after" in ended.stdout
        again = run(tmp_path, arguments)
        assert f"complete, 4 trials in {place}/tiny" in again.stdout, again.stdout + again.stderr
        store = fsspec.filesystem("s3", skip_instance_cache=True)
        kept = store.find(f"{place}/tiny")
        report = json.loads(store.cat_file(next(name for name in kept if name.endswith("/report.json"))))
        assert_all_there(report, 4, tmp_path / "server.db", tmp_path / "artifacts")
        assert not [name for name in kept if name.endswith(".lock")], "left behind"
        assert 0 < len([name for name in kept if "/optuna.journal/" in name]) <= 2, "a piece for each machine"
        trials = {name.split("/trials/")[1][:4] for name in kept if "/trials/" in name}
        assert trials == {f"{number:04d}" for number in range(4)}
    finally:
        server.kill()


def test_a_reader_and_a_writer_at_once(place: str, tmp_path: Path) -> None:
    """Whoever reads has some whole state of the journal, never less than before, while it is put again and again."""
    mine, log = Replica(tmp_path, Remote(place)), tmp_path / "optuna.journal"
    mine.fetch()
    ended = threading.Event()

    def write() -> None:
        for count in range(60):
            with log.open("ab") as file:
                file.write(f"{count}\n".encode())
            mine.send(log)
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = b""
    while not ended.is_set():
        now = replica.journal(place)
        assert now.startswith(seen)
        assert now in (b"", b"".join(f"{count}\n".encode() for count in range(now.count(b"\n"))))
        seen = now
    writer.join()
    assert seen.count(b"\n") > 1


def test_checkpoints(place: str) -> None:
    """The last two stay; one that is damaged is set aside; one whose worker died before its checksums is none."""
    folder, files = f"{place}/trial", Remote(place)
    assert training.latest(folder) is None
    for epoch in (1, 2, 9, 10):
        path = checkpoint.write(folder, made(epoch))
        assert path.endswith(f"/{checkpoint.files_in(folder).names()[-1]}")
    assert [name[:12] for name in checkpoint.files_in(folder).names()] == ["epoch-000009", "epoch-000010"]
    found = training.latest(folder)
    assert isinstance(found, Checkpoint)
    assert same(found, made(10))
    assert training.validated_weights(folder, 10) == f"{path}/model.safetensors"

    damaged = path.removeprefix(f"{place}/")
    files.put(f"{damaged}/model.safetensors", b"half")
    found = training.latest(folder)
    assert found is not None
    assert same(found, made(9))
    assert files.get(f"{damaged}.damaged/model.safetensors") == b"half"
    files.put("trial/epoch-000011-0a1b2c3d/model.safetensors", b"half")
    assert len(checkpoint.files_in(folder).names()) == 1
    for epoch in (12, 13):
        checkpoint.write(folder, made(epoch))
    assert not [name for name in files.files() if "epoch-000011" in name]


def test_a_store_that_hangs_keeps_no_epoch_waiting(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server is stopped while three epochs end, and goes on then."""
    monkeypatch.setattr(checkpoint, "WRITE_SECONDS", 0.0)
    folder = f"{place}/trial"
    (server,) = (child for child in psutil.Process().children() if "moto.server" in child.cmdline())
    with Writer(folder) as writer:
        server.suspend()
        try:
            for epoch in (1, 2, 3):
                writer.keep(ended(epoch), made(epoch).history)
            assert writer._writing is not None
            assert not writer._writing.done()
        finally:
            server.resume()
        writer.flush()
    assert [name[:12] for name in checkpoint.files_in(folder).names()] == ["epoch-000001", "epoch-000003"]
    found = training.latest(folder)
    assert found is not None
    assert same(found, made(3))


def test_a_bucket_that_is_not_there(place: str) -> None:
    """It is not made by the way, and not waited for."""
    before = time.monotonic()
    with pytest.raises(Halted, match=r"s3://nosuch/results cannot be written .*; see to that store, or your access"):
        Remote("s3://nosuch/results").put("a", b"b")
    assert time.monotonic() - before < 50, "a store that fails is tried again for a minute"
    assert fsspec.filesystem("s3", skip_instance_cache=True).ls("") == [BUCKET]

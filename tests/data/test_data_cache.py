"""Preparations are made once, whole or not at all, and again when they are damaged or their source changes."""

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.data import on_this_machine, prepare
from search.errors import InputError
from search.spec import DataSpec
from tests.support.sample_data import held, preparing, write_folder, write_npz


def folders(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache/resnet-search/data").iterdir() if path.is_dir())


def set_times(path: Path, stat: os.stat_result) -> None:
    """As a restored copy has them."""
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def flip_last_byte(path: Path) -> None:
    """The time of the content stays."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 255]))
    set_times(path, before)
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_four_processes_at_once_make_one_preparation(tmp_path: Path) -> None:
    name = write_folder(tmp_path / "images", {"train": {"a": 30, "b": 30}, "test": {"a": 2, "b": 2}})
    processes = [preparing(DataSpec(name=name).model_dump_json()) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate() for process in processes]
    assert [error for _, error in answers] == [""] * 4
    assert len({out for out, _ in answers}) == 1  # one inode, one time, one digest
    assert len(folders(tmp_path)) == 1


def test_killed_while_preparing_leaves_nothing_half(tmp_path: Path) -> None:
    root = tmp_path / "images"
    spec = DataSpec(name=write_folder(root, {"train": {"a": 4, "b": 4}}))
    process = preparing(spec.model_dump_json())
    assert process.stdin is not None
    with held(root / "train/a/3.png") as wait:
        process.stdin.write("go\n")
        process.stdin.flush()
        wait()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    (left,) = folders(tmp_path)
    assert left.endswith(".partial")
    prepared = prepare(spec)
    assert prepared.info.n_train + prepared.info.n_validation + prepared.info.n_test == 8
    assert folders(tmp_path) == [prepared.folder.name]


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "test_images.npy", "test_labels.npy"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_damaged_arrays_are_prepared_again(tmp_path: Path, name: str, damage: str) -> None:
    spec = DataSpec(name=write_npz(tmp_path / "d.npz"))
    prepared = prepare(spec)
    good = (prepared.folder / name).read_bytes()
    if damage == "cut":
        os.truncate(prepared.folder / name, len(good) - 1)
    elif damage == "flipped":
        flip_last_byte(prepared.folder / name)
    else:
        (prepared.folder / name).unlink()
    assert prepare(spec) == prepared
    assert (prepared.folder / name).read_bytes() == good
    assert len(folders(tmp_path)) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b'{"files"', b"\xff\xfe\x00\x81", b"5", b"[]", b"{}", b"null", b'{"files": 3}', b"[" * 10**5],
    ids=["empty", "cut", "no text", "number", "list", "nothing", "null", "type", "deep"],
)
@pytest.mark.parametrize("name", ["meta.json", "SHA256SUMS", "verified.json"])
def test_damaged_descriptions_are_written_again(name: str, content: bytes) -> None:
    prepared = prepare(DataSpec())
    good = (prepared.folder / name).read_bytes()
    (prepared.folder / name).write_bytes(content)
    assert prepare(DataSpec()) == prepared
    assert name == "verified.json" or (prepared.folder / name).read_bytes() == good


@pytest.mark.parametrize(
    ("key", "value"), [("mean", [0.9]), ("classes", [*"1023456789"]), ("n_train", 1200), ("n_validation", 238)]
)
def test_changed_figures_are_found(key: str, value: object) -> None:
    """Mean, order of the classes and sizes of the splits decide on results as the pixels do."""
    prepared = prepare(DataSpec())
    path = prepared.folder / "meta.json"
    meta, before = json.loads(path.read_bytes()), path.stat()
    assert meta[key] != value
    meta[key] = value
    path.write_text(json.dumps(meta, indent=1))
    set_times(path, before)
    assert prepare(DataSpec()) == prepared


def test_files_that_did_not_change_are_not_read_again() -> None:
    """The four arrays can be gigabytes: a held file would be waited for."""
    prepared = prepare(DataSpec())
    with held(prepared.folder / "images.npy"):
        process = preparing(DataSpec().model_dump_json())
        output, errors = process.communicate("go\n", timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert output.split()[-1] == prepared.info.digest


def test_the_checksums_are_those_of_sha256sum() -> None:
    folder = prepare(DataSpec()).folder
    done = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    names = ["images.npy", "labels.npy", "test_images.npy", "test_labels.npy", "test_names.json", "meta.json"]
    assert (done.returncode, done.stdout.splitlines()) == (0, [f"{name}: OK" for name in names])


def test_a_worker_prepares_damaged_data_again() -> None:
    prepared = prepare(DataSpec())
    path = prepared.folder / "images.npy"
    good, before = path.read_bytes(), path.stat()
    flip_last_byte(path)
    set_times(path, before)
    assert on_this_machine(prepared.folder, DataSpec(), prepared.info.digest) == prepared
    assert path.read_bytes() == good


def test_arrays_in_use_survive_being_prepared_again() -> None:
    prepared = prepare(DataSpec())
    split = prepared.train()
    before = split.images.copy()
    flip_last_byte(prepared.folder / "test_images.npy")
    prepare(DataSpec())
    np.testing.assert_array_equal(split.images, before)


def test_a_damaged_array_is_refused_by_a_worker_and_test_files_are_opened_for_the_test_alone() -> None:
    prepared = prepare(DataSpec())
    for path in prepared.folder.glob("test_*.npy"):
        path.unlink()
    assert (len(prepared.train()), len(prepared.validation())) == (1293, 145)
    os.truncate(prepared.folder / "images.npy", 1000)
    for split, name in ((prepared.train, "images"), (prepared.test, "test_images")):
        with pytest.raises(
            InputError, match=rf"/{name}\.npy is damaged; start the study again, which prepares the data"
        ):
            split()


def test_a_changed_source_is_another_preparation(tmp_path: Path) -> None:
    spec = DataSpec(name=write_npz(tmp_path / "d.npz"))
    first = prepare(spec)
    write_npz(tmp_path / "d.npz", n=30)
    second = prepare(spec)
    assert (first.info.n_train, second.info.n_train) == (18, 26)  # 20 and 30 less 1 and 1.5, rounded up, of each class
    assert first.folder != second.folder


def test_an_image_replaced_with_its_size_and_time_is_another_preparation(tmp_path: Path) -> None:
    """As `cp -p`, rsync and tar replace them."""
    spec = DataSpec(name=write_folder(tmp_path / "images", {"train": {"a": 4, "b": 4}}))
    first = prepare(spec)
    path = tmp_path / "images/train/a/0.png"
    old = path.stat()
    Image.new("RGB", (40, 32), (200, 200, 200)).save(path)
    os.truncate(path, old.st_size)  # what follows the picture in a PNG may be zeros
    set_times(path, old)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (old.st_size, old.st_mtime_ns)
    assert prepare(spec).info.digest != first.info.digest


def test_other_names_of_the_classes_are_other_data(tmp_path: Path) -> None:
    first = prepare(DataSpec(name=write_folder(tmp_path / "one", {"train": {"a": 4, "b": 4}})))
    second = prepare(DataSpec(name=write_folder(tmp_path / "two", {"train": {"a": 4, "c": 4}})))
    assert (first.folder / "images.npy").read_bytes() == (second.folder / "images.npy").read_bytes()
    assert first.info.digest != second.info.digest


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"^XDG_CACHE_HOME: prepared data cannot be written to .*Not a directory"):
        prepare(DataSpec())


def test_a_full_disk_leaves_nothing_half(tmp_path: Path) -> None:
    import resource

    spec = DataSpec(name=write_npz(tmp_path / "d.npz", n=2000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write beyond the limit fails like on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(InputError, match=r"prepared data cannot be written to .* \(File too large\)"):
            prepare(spec)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert prepare(spec).info.n_train == 1800
    assert len(folders(tmp_path)) == 1

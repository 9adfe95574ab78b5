"""Folders of images: which split they end in, and what decoding does to them."""

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.data import Split, check, prepare
from search.data.decode import decode
from search.errors import InputError
from search.spec import DataSpec
from tests.support.sample_data import write_folder


def greys(split: Split) -> list[int]:
    return split.images[:, 0, 0, 0].tolist()


def test_all_three_splits_are_used_as_they_are_named(tmp_path: Path) -> None:
    splits = {"train": {"cat": 3, "dog": 2}, "val": {"cat": 1, "dog": 1}, "test": {"cat": 2, "dog": 1}}
    prepared = prepare(DataSpec(name=write_folder(tmp_path, splits)))
    assert prepared.info.classes == ("cat", "dog")
    assert prepared.info.shape == (32, 32, 3)
    assert greys(prepared.train()) == [0, 1, 2, 10, 11]
    assert prepared.train().labels.tolist() == [0, 0, 0, 1, 1]
    assert greys(prepared.validation()) == [0, 10]
    assert greys(prepared.test()) == [0, 1, 10]


@pytest.mark.parametrize(
    ("shipped", "train", "validation", "test"),
    [
        (("train", "test"), 18, 2, 20),  # a tenth of the ten of each class
        (("train", "val"), 16, 20, 4),  # a fifth
        (("train",), 14, 2, 4),  # a fifth; then a tenth of the eight that are left, rounded
    ],
)
def test_a_missing_split_is_carved_from_train(
    tmp_path: Path, shipped: tuple[str, ...], train: int, validation: int, test: int
) -> None:
    spec = DataSpec(name=write_folder(tmp_path, {split: {"a": 10, "b": 10} for split in shipped}))
    info = check(spec)
    assert (info.n_train, info.n_validation, info.n_test) == (train, validation, test)
    prepared = prepare(spec)
    splits = {"train": prepared.train(), "val": prepared.validation(), "test": prepared.test()}
    assert tuple(map(len, splits.values())) == (train, validation, test)
    carved = [split for name, split in splits.items() if name == "train" or name not in shipped]
    # the twenty shipped training images, each once
    assert sorted(grey for split in carved for grey in greys(split)) == list(range(20))


def test_class_folders_alone_are_split_and_a_line_says_so(tmp_path: Path) -> None:
    """A fifth of the ten of each class, then a tenth of the eight that are left, as without val/ and test/."""
    name = write_folder(tmp_path, {"photos": {"a": 10, "b": 10}}) + "/photos"
    prepared = prepare(DataSpec(name=name))
    assert (prepared.info.classes, *map(len, (prepared.train(), prepared.test()))) == (("a", "b"), 14, 4)
    assert prepared.info.note.startswith(f"{tmp_path / 'photos'} has no train/: its 2 folders are the classes")
    (tmp_path / "photos/b").rename(tmp_path / "photos/Valid")
    with pytest.raises(InputError, match=r"photos/Valid is no class; call the splits train, val and test$"):
        check(DataSpec(name=name))


def test_unfit_images_of_all_splits_are_named_at_once_ten_of_them_by_name(tmp_path: Path) -> None:
    spec = DataSpec(name=write_folder(tmp_path, {"train": {"a": 20, "b": 20}, "test": {"a": 4, "b": 4}}))
    broken = [*sorted((tmp_path / "train/a").iterdir())[:9], *sorted((tmp_path / "test/b").iterdir())]
    for path in broken:
        path.write_text("no image")
    with pytest.raises(InputError, match=r"^data\.name: 13 images cannot be used; .* and 3 more$") as raised:
        prepare(spec)
    assert sum(f"{path} cannot be decoded (" in str(raised.value) for path in broken) == 10
    broken[-1].unlink()
    for path in (broken[-1], tmp_path / "train/b/gone.png"):
        path.symlink_to("nowhere")
    with pytest.raises(InputError, match=r"^data\.name: 2 images .*gone.png is a link that .*3.png is a link that "):
        check(spec)


def test_images_are_turned_upright_and_made_rgb(tmp_path: Path) -> None:
    grey = np.repeat(np.array([[0, 255]], np.uint8), 2, axis=0)  # black left, white right
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: left comes to the top
    Image.fromarray(grey).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(decode(tmp_path / "a.png", 2), [[[0] * 3] * 2, [[255] * 3] * 2])


def test_image_size_is_the_side(tmp_path: Path) -> None:
    name = write_folder(tmp_path, {"train": {"a": 4, "b": 4}})
    assert prepare(DataSpec(name=name, image_size=48)).train().images.shape[1:] == (48, 48, 3)


NO_FILES: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: path.symlink_to("gone.png"), "is a link that leads to no file"),
    (lambda path: path.symlink_to(path.name), "is a link that leads to no file"),
    (lambda path: os.mkfifo(path), "is no regular file"),
    (lambda path: path.symlink_to("/dev/zero"), "is no regular file"),
    (lambda path: socket.socket(socket.AF_UNIX).bind(os.path.relpath(path)), "is no regular file"),
]


@pytest.mark.parametrize(("make", "cause"), NO_FILES, ids=["dangling", "loop", "pipe", "device", "socket"])
def test_what_is_no_file_is_refused_before_it_is_opened(
    tmp_path: Path, make: Callable[[Path], object], cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write_folder(tmp_path / "images", {"train": {"a": 4, "b": 4}})
    odd = tmp_path / "images/train/b/odd.png"
    monkeypatch.chdir(odd.parent)  # a socket's path has at most 107 bytes
    make(odd)
    with pytest.raises(InputError) as raised:
        check(DataSpec(name=name))
    assert str(raised.value) == f"data.name: image {odd} {cause}; replace or remove it"


def refused_for_another_user(spec: DataSpec) -> str:
    """What a process of the user `nobody` is told, which must not read what is closed; root reads everything."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            check(spec)
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.parametrize("closed", ["train/b/2.png", "train/b", "train", "."])
def test_what_is_closed_to_this_user_is_named(tmp_path: Path, closed: str) -> None:
    name = write_folder(tmp_path / "images", {"train": {"a": 4, "b": 4}})
    shared = Path(tempfile.gettempdir())
    for folder in (tmp_path, *tmp_path.parents):  # pytest's own folders are closed to others
        if folder.is_relative_to(shared) and folder != shared:
            folder.chmod(0o755)
    path = (tmp_path / "images" / closed).resolve()
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        said = refused_for_another_user(DataSpec(name=name))
    finally:
        path.chmod(mode)
    assert said.startswith(("InputError: data", "UnfitError: data"))
    assert str(path) in said
    assert "cannot be read (Permission denied)" in said
    assert "\n" not in said


def test_links_to_images_and_to_class_folders_are_followed(tmp_path: Path) -> None:
    """As datasets on a larger disk are linked; and a folder may be called like an image."""
    name = write_folder(tmp_path / "images", {"train": {"a": 4, "b": 4}})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "images/train/b").rename(tmp_path / "elsewhere/b")
    (tmp_path / "images/train/b").symlink_to(tmp_path / "elsewhere/b")
    (tmp_path / "images/train/a/0.png").rename(tmp_path / "elsewhere/0.png")
    (tmp_path / "images/train/a/0.png").symlink_to("../../../elsewhere/0.png")
    (tmp_path / "elsewhere/b/more.png").mkdir()
    (tmp_path / "elsewhere/b/3.png").rename(tmp_path / "elsewhere/b/more.png/3.png")
    prepared = prepare(DataSpec(name=name))
    assert sorted(greys(prepared.whole()) + greys(prepared.test())) == [0, 1, 2, 3, 10, 11, 12, 13]


def test_hidden_folders_hold_no_images(tmp_path: Path) -> None:
    """Such as the copies of thumbnails and notebooks, which would be in two splits."""
    name = write_folder(tmp_path / "images", {"train": {"a": 4, "b": 4}})
    (tmp_path / "images/train/a/.thumbnails").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "images/train/a/.thumbnails/0.png")
    info = check(DataSpec(name=name))
    assert info.n_train + info.n_validation + info.n_test == 8


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("target", ["gone", "itself", "file"])
def test_a_split_that_cannot_be_entered_is_not_split_off(tmp_path: Path, split: str, target: str) -> None:
    name = write_folder(tmp_path / "images", {"train": {"a": 4, "b": 4}})
    place = tmp_path / "images" / split
    place.write_text("") if target == "file" else place.symlink_to({"gone": "/gone", "itself": split}[target])
    with pytest.raises(InputError, match=rf"there is no folder .*images/{split}; give the folder that holds train/"):
        check(DataSpec(name=name))


def test_links_that_lead_nowhere_or_round_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "images"
    name = write_folder(root, {"train": {"a": 4, "b": 4}})
    (root / "train/c").symlink_to("/gone")  # a class on a disk that is away
    with pytest.raises(InputError, match=r"^data\.name: .*/train/c is a link that leads nowhere; restore what it"):
        check(DataSpec(name=name))
    (root / "train/c").unlink()
    (root / "train/b/round").symlink_to(root)
    with pytest.raises(InputError, match=r"/train/b/round is a link to a folder, which is not followed within a class"):
        check(DataSpec(name=name))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"caf\xe9", r"'caf\udce9'"),
        (b"two\nlines", r"'two\nlines'"),
        (b"\x1b[31mred", r"'\x1b[31mred'"),
        ("\u202egnp.exe".encode(), r"'\u202egnp.exe'"),
    ],
    ids=["latin-1", "newline", "escape", "override"],
)
def test_class_names_that_would_break_a_report_are_refused(tmp_path: Path, name: bytes, shown: str) -> None:
    spec = DataSpec(name=write_folder(tmp_path / "images", {"train": {"a": 4, "b": 4}}))
    (tmp_path / "images/train/b").rename(tmp_path / "images/train" / os.fsdecode(name))
    with pytest.raises(InputError) as raised:
        check(spec)
    assert str(raised.value) == (
        f"data.name: class folder {shown} in {tmp_path / 'images/train'} has a name with bytes that are not UTF-8, or "
        "with control characters; rename it"
    )


def test_class_names_of_all_languages_and_any_names_of_images(tmp_path: Path) -> None:
    """Persian has a joiner within its words and Japanese a space of its own; - begins no flag."""
    names = ["-rf", "می\u200cخواهم", "日本\u3000語", "a b|c<d>&\"'`$*"]
    root = tmp_path / "images"
    spec = DataSpec(name=write_folder(root, {"train": dict.fromkeys(names, 4)}))
    for odd in (b"caf\xe9.png", b"-two\nlines.png"):
        (root / "train/-rf/0.png").rename(root / "train/-rf" / os.fsdecode(odd))
        Image.new("RGB", (4, 4)).save(root / "train/-rf/0.png")
    prepared = prepare(spec)
    assert prepared.info.classes == tuple(sorted(names))
    assert len(prepared.train()) + len(prepared.validation()) + len(prepared.test()) == 18

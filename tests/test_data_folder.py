"""Folders of images: which split they end in, and what decoding does to them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sample_data import write_folder

from search.data import DataSpec, Split, check, prepare
from search.data_decode import decode
from search.errors import InputError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def greys(split: Split) -> list[int]:
    return split.images[:, 0, 0, 0].tolist()


def test_all_three_splits_are_used_as_they_are_named(tmp_path: Path) -> None:
    name = write_folder(
        tmp_path, {"train": {"cat": 3, "dog": 2}, "val": {"cat": 1, "dog": 1}, "test": {"cat": 2, "dog": 1}}
    )
    prepared = prepare(DataSpec(name=name))
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
    assert sorted(grey for split in carved for grey in greys(split)) == list(
        range(20)
    )  # the twenty shipped training images, each once


def test_images_of_any_size_are_scaled_and_cropped_at_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = (255, 0, 0)  # only the middle square is red
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(wide.transpose(1, 0, 2)).save(tmp_path / "high.png")
    for name in ("wide.png", "high.png"):
        np.testing.assert_array_equal(decode(tmp_path / name, 10), np.broadcast_to([255, 0, 0], (10, 10, 3)))


def test_images_are_turned_upright_and_made_rgb(tmp_path: Path) -> None:
    grey = np.repeat(np.array([[0, 255]], np.uint8), 2, axis=0)  # black left, white right
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: left comes to the top
    Image.fromarray(grey).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(decode(tmp_path / "a.png", 2), [[[0] * 3] * 2, [[255] * 3] * 2])


def test_image_size_is_the_side(tmp_path: Path) -> None:
    name = write_folder(tmp_path, {"train": {"a": 4, "b": 4}})
    assert prepare(DataSpec(name=name, image_size=48)).train().images.shape[1:] == (48, 48, 3)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    name = write_folder(tmp_path, {"train": {"a": 4, "b": 4}})
    broken = tmp_path / "train/b/2.png"
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(InputError, match=r"image .*train/b/2\.png cannot be decoded \(.*\); replace or remove it$"):
        prepare(DataSpec(name=name))


def test_sixteen_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match=r"deep\.png has more than 8 bits a channel \(I;16\); convert it to 8 bits"):
        decode(tmp_path / "deep.png", 4)

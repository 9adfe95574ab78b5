"""`npz:PATH`: one NumPy archive with x_train, y_train, x_test and y_test, checked without reading the pixels."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from search.data_source import Counts, Images, Labels, Shipped, Source, require_every_class
from search.errors import InputError

KEYS = ("x_train", "y_train", "x_test", "y_test")
_UNREADABLE = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError)


def npz_source(path: Path, classes: tuple[str, ...] | None = None) -> Source:
    """The archive at `path`: pixels uint8 (n, H, W) or (n, H, W, C), labels whole numbers 0..K-1 of shape (n,).

    Raises:
        InputError: when the file is missing, is no archive, lacks a key, or an array has another type, shape or range.
    """
    if not path.is_file():
        raise InputError(f"data.name: there is no file {path}; give the path of an .npz archive with {', '.join(KEYS)}")
    path = path.resolve()
    try:
        with zipfile.ZipFile(path) as archive:
            headers = {key: _header(archive, path, key) for key in KEYS}
            for key in ("y_train", "y_test"):
                _check_labels_header(path, key, *headers[key])
            labels = {key: np.asarray(_array(path, key), np.int64) for key in ("y_train", "y_test")}
    except InputError:
        raise
    except _UNREADABLE as error:
        raise InputError(f"data.name: {path} cannot be read as an .npz archive ({error}); write it again") from error
    for split in ("train", "test"):
        _check_images_header(path, f"x_{split}", *headers[f"x_{split}"], n=len(labels[f"y_{split}"]))
    if headers["x_train"][0][1:] != headers["x_test"][0][1:]:
        raise InputError(
            f"data.name: in {path} x_train has images of shape {headers['x_train'][0][1:]} and x_test of "
            f"{headers['x_test'][0][1:]}; give both the same shape"
        )
    return _source(path, labels, headers["x_train"][0][1:], classes)


def _source(path: Path, labels: dict[str, Labels], shape: tuple[int, ...], classes: tuple[str, ...] | None) -> Source:
    n_classes = int(labels["y_train"].max()) + 1 if classes is None else len(classes)
    for key, values in labels.items():
        if values.min() < 0 or values.max() >= n_classes:
            bad = int(values.min()) if values.min() < 0 else int(values.max())
            raise InputError(
                f"data.name: {key} in {path} has the label {bad}, outside 0..{n_classes - 1}, the classes of the "
                "training images; number the classes from 0 and use the same numbers in both splits"
            )
    if n_classes > len(labels["y_train"]):
        raise InputError(
            f"data.name: y_train in {path} has the label {n_classes - 1} but only {len(labels['y_train'])} images; "
            "number the classes 0, 1, 2 without gaps"
        )
    names = classes or tuple(str(k) for k in range(n_classes))
    train, test = (tuple(np.bincount(labels[key], minlength=n_classes).tolist()) for key in ("y_train", "y_test"))
    require_every_class(names, train, f"y_train in {path}")
    whole = (shape[0], shape[1], shape[2] if len(shape) == 3 else 1)

    def load() -> Shipped:
        try:
            pixels = [_array(path, f"x_{split}") for split in ("train", "test")]
        except _UNREADABLE as error:
            raise InputError(f"data.name: the images in {path} cannot be read ({error}); write it again") from error
        return Shipped(Images.of(pixels[0], labels["y_train"]), None, Images.of(pixels[1], labels["y_test"]))

    return Source(names, whole, Counts(train, test=test), (path,), load)


def _header(archive: zipfile.ZipFile, path: Path, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array, from the first bytes of its member."""
    if f"{key}.npy" not in archive.namelist():
        found = ", ".join(sorted(Path(name).stem for name in archive.namelist())) or "nothing"
        raise InputError(f"data.name: {path} has no array {key!r} (it has {found}); save it with {', '.join(KEYS)}")
    with archive.open(f"{key}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
    return shape, dtype


def _array(path: Path, key: str) -> np.ndarray[Any, Any]:
    with np.load(path, allow_pickle=False) as archive:
        return archive[key]


def _check_labels_header(path: Path, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "iu" or len(shape) != 1 or shape[0] == 0:
        raise InputError(
            f"data.name: {key} in {path} is {dtype} of shape {shape}; give whole numbers of shape (images,)"
        )


def _check_images_header(path: Path, key: str, shape: tuple[int, ...], dtype: np.dtype[Any], n: int) -> None:
    if dtype != np.uint8:
        raise InputError(f"data.name: {key} in {path} is {dtype}; give pixels from 0 to 255 as uint8")
    if len(shape) not in (3, 4) or 0 in shape:
        raise InputError(
            f"data.name: {key} in {path} has shape {shape}; give (images, height, width) or (images, height, width, "
            "channels)"
        )
    if len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3):
        raise InputError(
            f"data.name: {key} in {path} has shape {shape}, with the channels before the rows; "
            "save it with numpy.moveaxis(x, 1, 3)"
        )
    if shape[0] != n:
        raise InputError(
            f"data.name: {path} has {shape[0]} images in {key} and {n} labels in y{key[1:]}; give one label an image"
        )

"""What every kind of raw data offers, and `npz:PATH`: its layout first, its images when they are prepared."""

import lzma
import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search import machine
from search.errors import InputError, first_line
from search.storage import paths

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


def images_at_a_time(shape: tuple[int, ...]) -> int:
    """How many images of `shape` to hold in memory while streaming: about 32 MiB of them."""
    return max(1, 2**25 // math.prod(shape))


@dataclass(frozen=True)
class Images:
    """One shipped split: labels in memory, pixels read on demand.

    `stream` takes indices (n,) and yields their images in order, uint8 (k, H, W, C) at a time, 32 MiB each or less.
    Closing it frees what it holds.
    """

    labels: Labels  # (n,)
    stream: Callable[[NDArray[np.int64]], Generator[Pixels]]

    @classmethod
    def of(cls, pixels: Pixels, labels: NDArray[np.generic]) -> "Images":
        """Images that are in memory already: uint8 (n, H, W) or (n, H, W, C)."""
        whole = pixels[..., None] if pixels.ndim == 3 else pixels
        step = images_at_a_time(whole.shape[1:])

        def stream(indices: NDArray[np.int64]) -> Generator[Pixels]:
            return (whole[indices[start : start + step]] for start in range(0, len(indices), step))

        return cls(np.asarray(labels, np.int64), stream)


@dataclass(frozen=True)
class Shipped:
    """The splits a data set comes with."""

    train: Images
    validation: Images | None
    test: Images | None


@dataclass(frozen=True)
class Counts:
    """Images per class in each shipped split; None where it is not shipped and will be carved from train."""

    train: tuple[int, ...]
    validation: tuple[int, ...] | None = None
    test: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Source:
    """Raw data that was found, or that can be downloaded."""

    classes: tuple[str, ...]
    shape: tuple[int, int, int]  # (H, W, C)
    counts: Counts
    files: tuple[Path, ...]  # what was found; their names, sizes and times identify the content
    load: Callable[[], Shipped]
    download: Callable[[], None] | None = None  # set when the files are missing: fetches them

    @cached_property
    def identity(self) -> str:
        """Changes whenever a raw file changes, appears or disappears.

        The time of the last change of its content or its record (ctime) cannot be set, as the time of the last change
        of its content can be: by `touch`, `cp -p`, or an archive that is unpacked over another.
        """
        return "\n".join(f"{path} {stat.st_size} {stat.st_ctime_ns}" for path in self.files if (stat := path.stat()))


def require_every_class(classes: tuple[str, ...], counts: tuple[int, ...], where: str) -> None:
    """Refuse training images that leave a class out.

    Raises:
        InputError: naming the first class without an image.
    """
    if len(classes) < 2:
        raise InputError(f"data.name: {where} has {len(classes)} class; give images of at least 2 classes")
    for name, n in zip(classes, counts, strict=True):
        if n == 0:
            raise InputError(f"data.name: {where} has no training image of class {name!r}; add some or renumber")


KEYS = ("x_train", "y_train", "x_test", "y_test")
# What zipfile and NumPy raise for archives that are damaged, encrypted (RuntimeError) or compressed in an unknown way.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, ValueError, EOFError, OSError, RuntimeError, MemoryError)


@dataclass(frozen=True)
class _Array:
    """An array as its member of the archive begins."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stored: int  # bytes of the member after its header, as the archive lists it

    @property
    def promised(self) -> int:
        """Bytes that reading it takes."""
        return math.prod(self.shape) * self.dtype.itemsize


def npz_source(path: Path, classes: tuple[str, ...] | None = None) -> Source:
    """The archive at `path`: pixels uint8 (n, H, W) or (n, H, W, C), labels whole numbers 0..K-1 of shape (n,).

    Raises:
        InputError: when the file is missing, is no archive, lacks a key, an array has another type, shape or range, or
            the arrays are larger than what is there of them, or than the memory.
    """
    if cause := paths.fault(path):
        raise InputError(f"data.name: {path} {cause}; give the path of an .npz archive with {', '.join(KEYS)}")
    path = path.resolve()
    with _reading(path):
        with zipfile.ZipFile(path) as archive:
            arrays = {key: _header(archive, path, key) for key in KEYS}
        for split in ("train", "test"):
            _check_labels(path, f"y_{split}", arrays[f"y_{split}"])
            _check_images(path, f"x_{split}", arrays[f"x_{split}"], n=arrays[f"y_{split}"].shape[0])
        _check_sizes(path, arrays)
        if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
            raise InputError(
                f"data.name: in {path} x_train has images of shape {arrays['x_train'].shape[1:]} and x_test of "
                f"{arrays['x_test'].shape[1:]}; give both the same shape"
            )
        labels = {key: np.asarray(_array(path, key), np.int64) for key in ("y_train", "y_test")}
    return _source(path, labels, arrays["x_train"].shape[1:], classes)


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
        with _reading(path):
            pixels = [_array(path, f"x_{split}") for split in ("train", "test")]
        return Shipped(Images.of(pixels[0], labels["y_train"]), None, Images.of(pixels[1], labels["y_test"]))

    return Source(names, whole, Counts(train, test=test), (path,), load)


@contextmanager
def _reading(path: Path) -> Generator[None]:
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of headers that Python 2 wrote
            yield
    except InputError:
        raise
    except _UNREADABLE as error:
        cause = first_line(error)
        raise InputError(f"data.name: {path} cannot be read as an .npz archive ({cause}); write it again") from error


def _header(archive: zipfile.ZipFile, path: Path, key: str) -> _Array:
    if f"{key}.npy" not in archive.namelist():
        found = ", ".join(sorted(Path(name).stem for name in archive.namelist())) or "nothing"
        raise InputError(f"data.name: {path} has no array {key!r} (it has {found}); save it with {', '.join(KEYS)}")
    with archive.open(f"{key}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        try:
            shape, _, dtype = read(member)
        except (tokenize.TokenError, TypeError) as error:  # which NumPy lets through, beside its own ValueError
            raise ValueError(f"{key} has a damaged header") from error
        return _Array(shape, dtype, archive.getinfo(f"{key}.npy").file_size - member.tell())


def _array(path: Path, key: str) -> np.ndarray[Any, Any]:
    with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _check_labels(path: Path, key: str, array: _Array) -> None:
    if array.dtype.kind not in "iu" or len(array.shape) != 1 or array.shape[0] < 1:
        raise InputError(
            f"data.name: {key} in {path} is {array.dtype} of shape {array.shape}; give whole numbers of shape (images,)"
        )


def _check_images(path: Path, key: str, array: _Array, n: int) -> None:
    shape = array.shape
    if array.dtype != np.uint8:
        raise InputError(f"data.name: {key} in {path} is {array.dtype}; give pixels from 0 to 255 as uint8")
    if len(shape) not in (3, 4) or min(shape) < 1:
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


def _check_sizes(path: Path, arrays: dict[str, _Array]) -> None:
    """Before memory is taken for any of them: zeros compress a thousand times, and a header can say anything."""
    for key, array in arrays.items():
        if array.promised > array.stored:
            raise InputError(
                f"data.name: {key} in {path} has {array.stored:,} bytes where its shape {array.shape} needs "
                f"{array.promised:,}; write it again"
            )
    as_int64 = 8 * (arrays["y_train"].shape[0] + arrays["y_test"].shape[0])
    needed, there = sum(array.promised for array in arrays.values()) + as_int64, machine.total()
    if needed > there:
        raise InputError(
            f"data.name: the arrays in {path} take {needed / 1e9:,.1f} GB of memory, and this machine has "
            f"{there / 1e9:,.1f} GB; give fewer or smaller images"
        )

"""What every kind of raw data offers, and `npz:PATH`: its layout first, its images when they are prepared."""

import lzma
import math
import tokenize
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search import machine
from search.errors import InputError, first_line
from search.storage import paths

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


# A class's name stands in reports, tables and JSON. These cannot be written as UTF-8, end a line, or turn the text that
# follows: Unicode's general categories, and its classes of bidirectional embeddings, overrides and isolates.
_UNFIT = frozenset({"Cc", "Cs", "Zl", "Zp", "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def is_name(text: str) -> bool:
    """Whether a class can be called so."""
    kinds = {kind(c) for c in text for kind in (unicodedata.category, unicodedata.bidirectional)}
    return bool(text) and _UNFIT.isdisjoint(kinds)


@dataclass(frozen=True)
class Unfit:
    """An image that cannot be used."""

    path: Path
    fault: str  # the end of a clause about it
    remedy: str = "replace or remove it"


class UnfitError(InputError):
    """Names all images that cannot be used in one sentence."""

    SHOWN = 10

    def __init__(self, images: Sequence[Unfit]) -> None:
        self.images = tuple(images)
        first, *others = self.images
        told = f"image {first.path} {first.fault}; {first.remedy}"
        if others:
            listed = ", ".join(f"{image.path} {image.fault}" for image in self.images[: self.SHOWN])
            more = len(self.images) - self.SHOWN
            listed += f" and {more} more" if more > 0 else ""
            told = f"{len(self.images)} images cannot be used; replace, convert or remove them: {listed}"
        super().__init__(f"data.name: {told}")


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
class Source:
    """Raw data that was found, or that can be downloaded.

    Its splits are train and, where they are shipped, validation and test.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]  # (H, W, C)
    counts: Mapping[str, tuple[int, ...]]  # shipped split -> its images of each class
    files: tuple[Path, ...]  # what was found; their names, sizes and times identify the content
    load: Callable[[], Mapping[str, Images]]  # shipped split -> its images
    download: Callable[[], None] | None = None  # set when the files are missing: fetches them
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Of a folder of images: shipped split -> the path of each image below the folder."""
    groups: Mapping[str, Labels] = field(default_factory=dict[str, Labels])
    """Shipped split -> the number of each image's group; images of a group go into one split."""
    note: str = ""  # how they were understood, where a user may have meant something else


KEYS = ("x_train", "y_train")
TESTED = ("x_test", "y_test")  # which may be missing: a test split is made then
NAMES = "class_names"  # which may be missing, too: a class has its number as name
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


def npz_source(path: Path, classes: tuple[str, ...] | None = None, size: int | None = None) -> Source:
    """The archive at `path`: pixels uint8 (n, H, W) or (n, H, W, C), labels whole numbers 0..K-1 of shape (n,).

    `class_names` (K,) and both arrays of the test split may be missing. With `size` images are resized by the shorter
    side to so many pixels, and cropped at the centre.

    Raises:
        InputError: when the file is missing, is no archive, lacks a key, an array has another type, shape or range, or
            the arrays are larger than what is there of them, or than the memory; images cannot be resized.
    """
    if cause := paths.fault(path):
        raise InputError(f"data.name: {path} {cause}; give the path of an .npz archive with {', '.join(KEYS)}")
    path = path.resolve()
    with _reading(path):
        with zipfile.ZipFile(path) as archive:
            there = {Path(name).stem for name in archive.namelist()}
            splits = ("train", "test") if there & {*TESTED} else ("train",)
            wanted = (*KEYS, *(TESTED if "test" in splits else ()), *({NAMES} & there))
            arrays = {key: _header(archive, path, key) for key in wanted}
        for fault in _faults(path, arrays, splits):
            raise InputError(f"data.name: {fault}")
        labels = {split: np.asarray(_array(path, f"y_{split}"), np.int64) for split in splits}
        if classes is None and NAMES in arrays:
            classes = _class_names(path)
    n_classes = len(classes) if classes else int(labels["train"].max()) + 1
    for fault in _label_faults(path, labels, n_classes):
        raise InputError(f"data.name: {fault}")

    def load() -> dict[str, Images]:
        with _reading(path):
            found = {split: Images.of(_array(path, f"x_{split}"), labels[split]) for split in labels}
            return {split: _resized(images, size) if size else images for split, images in found.items()}

    height, width, channels = (*arrays["x_train"].shape[1:], 1)[:3]
    if size and channels not in (1, 3):
        raise InputError(f"data.image_size = {size} is for images of 1 or 3 channels, not {channels}; leave it out")
    height, width = (size, size) if size else (height, width)
    counts = {split: tuple(np.bincount(values, minlength=n_classes).tolist()) for split, values in labels.items()}
    names = classes or tuple(str(k) for k in range(n_classes))
    return Source(names, (height, width, channels), counts, (path,), load)


def _resized(images: Images, size: int) -> Images:
    from PIL import Image  # noqa: PLC0415  as below: once images are read

    from resnet.images import centre  # noqa: PLC0415  torch

    def stream(indices: NDArray[np.int64]) -> Generator[Pixels]:
        for piece in images.stream(indices):
            grey = piece.shape[3] == 1
            squares = [centre(Image.fromarray(one[..., 0] if grey else one), size, size) for one in piece]
            made = np.stack([np.asarray(square) for square in squares])
            yield made[..., None] if grey else made

    return Images(images.labels, stream)


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


def _class_names(path: Path) -> tuple[str, ...]:
    names = _array(path, NAMES)
    words = tuple(map(str, names.ravel()))
    if names.dtype.kind != "U" or names.ndim != 1 or len({*words}) < len(words) or not all(map(is_name, words)):
        raise InputError(
            f"data.name: {NAMES} in {path} is {names.dtype} of shape {names.shape}; give a word for each class, all "
            "different and without control characters"
        )
    return words


def _faults(path: Path, arrays: Mapping[str, _Array], splits: Sequence[str]) -> Iterator[str]:
    """What is wrong by the headers, before memory is taken: zeros compress a thousand times, and a header lies."""
    for split in splits:
        pixels, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        shape, x, y = pixels.shape, f"x_{split} in {path}", f"y_{split} in {path}"
        if labels.dtype.kind not in "iu" or len(labels.shape) != 1 or labels.shape[0] < 1:
            yield f"{y} is {labels.dtype} of shape {labels.shape}; give whole numbers of shape (images,)"
        if pixels.dtype != np.uint8:
            yield f"{x} is {pixels.dtype}; give pixels from 0 to 255 as uint8"
        if len(shape) not in (3, 4) or min(shape) < 1:
            yield f"{x} has shape {shape}; give (images, height, width) or (images, height, width, channels)"
        if len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3):
            yield f"{x} has shape {shape}, with the channels before the rows; save it with numpy.moveaxis(x, 1, 3)"
        if shape[0] != labels.shape[0]:
            yield (
                f"{path} has {shape[0]} images in x_{split} and {labels.shape[0]} labels in y_{split}; "
                "give one label an image"
            )
    for key, array in arrays.items():
        if array.promised > array.stored:
            yield (
                f"{key} in {path} has {array.stored:,} bytes where its shape {array.shape} needs {array.promised:,}; "
                "write it again"
            )
    as_int64 = 8 * sum(arrays[f"y_{split}"].shape[0] for split in splits)
    needed, there = sum(array.promised for array in arrays.values()) + as_int64, machine.total()
    if needed > there:
        yield (
            f"the arrays in {path} take {needed / 1e9:,.1f} GB of memory, and this machine has {there / 1e9:,.1f} GB; "
            "give fewer or smaller images"
        )
    train, test = (arrays[f"x_{split}"].shape[1:] for split in (splits[0], splits[-1]))
    if train != test:
        yield f"in {path} x_train has images of shape {train} and x_test of {test}; give both the same shape"


def _label_faults(path: Path, labels: Mapping[str, Labels], n_classes: int) -> Iterator[str]:
    for split, values in labels.items():
        worst = int(values.min()) if values.min() < 0 else int(values.max())
        if not 0 <= worst < n_classes:
            yield (
                f"y_{split} in {path} has the label {worst}, outside 0..{n_classes - 1}, the classes of the training "
                "images; number the classes from 0 and use the same numbers in both splits"
            )
    train = labels["train"]
    if n_classes > len(train):
        yield (
            f"y_train in {path} has the label {n_classes - 1} but only {len(train)} images; number the classes "
            "0, 1, 2 without gaps"
        )
    if n_classes < 2:
        yield f"y_train in {path} has 1 class; give images of at least 2 classes"
    for label in sorted({*range(n_classes)} - {*train.tolist()}):
        yield f"y_train in {path} has no training image of class '{label}'; add some or renumber"

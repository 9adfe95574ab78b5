"""The named data sets: digits, which scikit-learn ships, and those of torchvision, on disk, at a URL, or downloaded."""

import hashlib
import http.client
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.data.source import Counts, Images, Shipped, Source, npz_source
from search.errors import InputError, public, without_credentials
from search.spec import DataSpec
from search.storage import is_url, opened, paths

_DOWNLOAD_TIMEOUT = 30.0  # seconds without an answer
_DIGITS = tuple("0123456789")
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""


@dataclass(frozen=True)
class Standard:
    """A published data set, with its numbers: known before torchvision, which takes seconds, is imported."""

    reader: str  # class of torchvision.datasets
    classes: tuple[str, ...]
    shape: tuple[int, int, int]  # (H, W, C)
    counts: Counts
    files: tuple[str, ...]  # below the folder, as torchvision has them


def _idx(name: str) -> tuple[str, ...]:
    kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
    return tuple(f"{name}/raw/{split}-{kind}" for split in ("train", "t10k") for kind in kinds)


STANDARD = {
    "mnist": Standard(
        "MNIST",
        _DIGITS,
        (28, 28, 1),
        Counts(
            (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
            test=(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
        ),
        _idx("MNIST"),
    ),
    "fashion-mnist": Standard(
        "FashionMNIST", _FASHION, (28, 28, 1), Counts((6000,) * 10, test=(1000,) * 10), _idx("FashionMNIST")
    ),
    "cifar10": Standard(
        "CIFAR10",
        _CIFAR10,
        (32, 32, 3),
        Counts((5000,) * 10, test=(1000,) * 10),
        tuple(
            f"cifar-10-batches-py/{n}"
            for n in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
        ),
    ),
    "cifar100": Standard(
        "CIFAR100",
        tuple(_CIFAR100.split()),
        (32, 32, 3),
        Counts((500,) * 100, test=(100,) * 100),
        tuple(f"cifar-100-python/{name}" for name in ("train", "test", "meta")),
    ),
    "svhn": Standard(
        "SVHN",
        _DIGITS,
        (32, 32, 3),
        Counts(
            (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
            test=(1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595),
        ),
        ("train_32x32.mat", "test_32x32.mat"),
    ),
}


def digits_source() -> Source:
    """scikit-learn's 1797 handwritten digits, 8x8 with grey levels 0..16, here scaled to 0..255."""

    def load() -> Shipped:
        found = find_spec("sklearn")
        assert found is not None, "scikit-learn is installed with this package"
        file = Path(*found.submodule_search_locations or ()) / "datasets" / "data" / "digits.csv.gz"
        table = np.loadtxt(file, np.int64, delimiter=",")  # 64 pixels and a label; importing scikit-learn takes seconds
        pixels = np.rint(table[:, :-1] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
        return Shipped(Images.of(pixels, table[:, -1]), None, None)

    counts = Counts((178, 182, 177, 183, 181, 182, 181, 179, 174, 180))
    return Source(_DIGITS, (8, 8, 1), counts, (), load)


def standard_source(spec: DataSpec) -> Source:
    """The raw files of `spec.name`, or, where they are not all there, the way to copy or download them.

    Raises:
        InputError: when `spec.dir` is no folder, when one of the files in it cannot be read as one, or when it holds a
            `cifar10.npz` that is not CIFAR-10.
    """
    standard = STANDARD[spec.name]
    url = spec.dir if spec.dir and is_url(spec.dir) else None
    if url:
        root = copy_of(url)
    elif spec.dir is not None:
        root = paths.resolved(spec.dir, "data.dir")
        if not root.is_dir():
            raise InputError(f"data.dir = {spec.dir!r} is no folder; create it, or name the one with the raw files")
    else:
        root = (paths.user_cache() / "datasets").resolve()
    if spec.name == "cifar10" and os.path.lexists(root / "cifar10.npz"):
        return _cifar10_npz(root / "cifar10.npz", standard)
    files = tuple(root / name for name in standard.files)
    there = [path for path in files if os.path.lexists(path)]
    for path in there:
        if cause := paths.fault(path):  # a download would write into it
            raise InputError(f"data.dir: {path} {cause}; replace or remove it")

    def load() -> Shipped:
        return _load(spec.name, standard, root)

    found = Source(standard.classes, standard.shape, standard.counts, files, load)
    if len(there) == len(files):
        return found
    if url:
        choices = (standard.files, *([("cifar10.npz",)] if spec.name == "cifar10" else []))
        return replace(found, files=(), download=lambda: fetch(url, choices, root))
    return replace(found, files=(), download=lambda: _download(spec.name, standard, root))


def _cifar10_npz(path: Path, standard: Standard) -> Source:
    source = npz_source(path, standard.classes)
    if source.shape != standard.shape:
        raise InputError(f"data.dir: {path} has images of shape {source.shape}, not (32, 32, 3); replace it")
    return source


def _load(name: str, standard: Standard, root: Path) -> Shipped:
    splits: list[Images] = []
    for split, counts in (("train", standard.counts.train), ("test", standard.counts.test or ())):
        try:
            pixels, labels = _arrays(standard, root, split)
        except (OSError, RuntimeError, ValueError, TypeError, AssertionError, LookupError) as error:
            raise InputError(
                f"data.dir: {name} in {root} cannot be read ({_line(error)}); replace its files"
            ) from error
        if pixels.shape != (sum(counts), *standard.shape) or tuple(np.bincount(labels)) != counts:
            raise InputError(
                f"data.dir: {name} in {root} has other {split} images than the {sum(counts)} that are published; "
                "replace its files"
            )
        splits.append(Images.of(pixels, labels))
    return Shipped(splits[0], None, splits[1])


def _arrays(standard: Standard, root: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    found = _torchvision(standard, root, split, download=False)
    if standard.reader == "SVHN":  # (n, C, H, W)
        return np.ascontiguousarray(found.data.transpose(0, 2, 3, 1)), found.labels
    pixels = np.asarray(found.data)
    return pixels if pixels.ndim == 4 else pixels[..., None], np.asarray(found.targets)


def _torchvision(standard: Standard, root: Path, split: str, *, download: bool) -> Any:
    # A second more than torch, for which nobody waits whose images are others.
    from torchvision import datasets  # noqa: PLC0415  # pyright: ignore[reportMissingTypeStubs]

    which: dict[str, Any] = {"split": split} if standard.reader == "SVHN" else {"train": split == "train"}
    return getattr(datasets, standard.reader)(root, **which, download=download)


def _download(name: str, standard: Standard, root: Path) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT)  # torchvision sets none: a silent network would hang for ever
    try:
        root.mkdir(parents=True, exist_ok=True)
        for split in ("train", "test"):
            _torchvision(standard, root, split, download=True)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise InputError(
            f"data.name: {name} is not in {root} and could not be downloaded ({_line(error)}); put its files there, or "
            "name their folder with --data-dir"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def copy_of(url: str) -> Path:
    """Where this machine keeps what it has copied from `url`."""
    return paths.user_cache() / "datasets" / f"copy-{hashlib.sha256(url.encode()).hexdigest()[:16]}"


def fetch(url: str, choices: Sequence[tuple[str, ...]], root: Path) -> None:
    """Copies the first of these sets of files that is whole below `url` into `root`. The caller holds a lock.

    Raises:
        InputError: the URL cannot be read, or holds none of the sets.
    """
    shown = public(url)
    try:
        store, path = opened(url)
        for names in choices:
            if all(store.isfile(f"{path.rstrip('/')}/{name}") for name in names):
                for name in names:
                    _copy(store, f"{path.rstrip('/')}/{name}", root / name)
                return
    except ImportError as error:
        raise InputError(f"data.dir = {shown!r}: {without_credentials(str(error), url)}") from error
    except Exception as error:  # whatever the store's client raises
        cause = " ".join(without_credentials(str(error), url).split())
        raise InputError(f"data.dir = {shown!r} cannot be read ({cause}); correct it, or the access to it") from error
    raise InputError(f"data.dir = {shown!r} does not hold {' and '.join(choices[0])}; put them there")


def _copy(store: Any, source: str, target: Path) -> None:
    """Whole, or not at all."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.part")
    store.get_file(source, str(partial))
    partial.replace(target)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

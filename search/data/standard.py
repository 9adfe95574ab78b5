"""The named data sets: digits, which scikit-learn ships, and those found on disk, at a URL, or downloaded."""

import gzip
import hashlib
import http.client
import os
import socket
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from search.data.source import Counts, Images, Shipped, Source, npz_source
from search.errors import InputError, public, without_credentials
from search.spec import DataSpec
from search.storage import fault, is_url, resolved, user_cache


def copy_of(url: str) -> Path:
    """Where this machine keeps what it has copied from `url`."""
    return user_cache() / "datasets" / f"copy-{hashlib.sha256(url.encode()).hexdigest()[:16]}"


def fetch(url: str, choices: Sequence[tuple[str, ...]], root: Path) -> None:
    """Copies the first of these sets of files that is whole below `url` into `root`. The caller holds a lock.

    Raises:
        InputError: the URL cannot be read, or holds none of the sets.
    """
    shown = public(url)
    try:
        store, path = fsspec.core.url_to_fs(url)
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
_IDX = tuple(f"{s}-{kind}-ubyte" for s in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
_DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
_DOWNLOAD_TIMEOUT = 30.0  # seconds without an answer

Arrays = tuple[NDArray[np.generic], NDArray[np.generic]]  # pixels, labels


@dataclass(frozen=True)
class Standard:
    """A published data set with its numbers and the places of its files."""

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    counts: Counts
    layouts: tuple[tuple[str, ...], ...]  # any one of these sets of files is the whole data set
    read: Callable[[tuple[Path, ...], Path, bool], Arrays]  # files found, their folder, whether the training images
    fetch: Callable[[Path], object]  # downloads into a folder


def _idx_arrays(files: tuple[Path, ...], _: Path, train: bool) -> Arrays:
    images, labels = files[:2] if train else files[2:]
    return _idx(images), _idx(labels)


def _idx(path: Path) -> NDArray[np.generic]:
    """An array of the IDX format of MNIST's home page: two zeros, type 8 (uint8), rank, big-endian sizes, data."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if content[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is no IDX file of bytes")
    rank = content[3]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(np.frombuffer(content, ">i4", rank, 4))


def _fetch_fashion(root: Path) -> None:
    from torchvision.datasets import FashionMNIST

    FashionMNIST(root, download=True)


def _cifar(name: str, root: Path, train: bool, download: bool) -> Arrays:
    from torchvision.datasets import CIFAR10, CIFAR100

    found = (CIFAR100 if name == "cifar100" else CIFAR10)(root, train=train, download=download)
    return found.data, np.asarray(found.targets)


def _svhn_arrays(_: tuple[Path, ...], root: Path, train: bool) -> Arrays:
    from torchvision.datasets import SVHN

    found = SVHN(str(root), split="train" if train else "test")
    return found.data.transpose(0, 2, 3, 1), found.labels  # torchvision gives NCHW


def _fetch_svhn(root: Path) -> None:
    from torchvision.datasets import SVHN

    for split in ("train", "test"):
        SVHN(str(root), split=split, download=True)


STANDARD = {
    "fashion-mnist": Standard(
        _FASHION,
        (28, 28, 1),
        Counts((6000,) * 10, test=(1000,) * 10),
        tuple(tuple(f"{f}{n}{end}" for n in _IDX) for end in ("", ".gz") for f in ("", "FashionMNIST/raw/")),
        _idx_arrays,
        _fetch_fashion,
    ),
    "cifar10": Standard(
        _CIFAR10,
        (32, 32, 3),
        Counts((5000,) * 10, test=(1000,) * 10),
        (tuple(f"cifar-10-batches-py/{n}" for n in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")),),
        lambda _, root, train: _cifar("cifar10", root, train, download=False),
        lambda root: _cifar("cifar10", root, train=True, download=True),
    ),
    "cifar100": Standard(
        tuple(_CIFAR100.split()),
        (32, 32, 3),
        Counts((500,) * 100, test=(100,) * 100),
        (("cifar-100-python/train", "cifar-100-python/test"),),
        lambda _, root, train: _cifar("cifar100", root, train, download=False),
        lambda root: _cifar("cifar100", root, train=True, download=True),
    ),
    "svhn": Standard(
        _DIGITS,
        (32, 32, 3),
        Counts(
            (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
            test=(1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595),
        ),
        (("train_32x32.mat", "test_32x32.mat"),),
        _svhn_arrays,
        _fetch_svhn,
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
    """The raw files of `spec.name`, or, where none are found, the way to download them.

    Raises:
        InputError: when `spec.dir` is no folder, when one of the files in it cannot be read as one, or when it holds a
            `cifar10.npz` that is not CIFAR-10.
    """
    standard = STANDARD[spec.name]
    url = spec.dir if spec.dir and is_url(spec.dir) else None
    if url:
        root = copy_of(url)
    elif spec.dir is not None:
        root = resolved(spec.dir, "data.dir")
        if not root.is_dir():
            raise InputError(f"data.dir = {spec.dir!r} is no folder; create it, or name the one with the raw files")
    else:
        root = (user_cache() / "datasets").resolve()
    if spec.name == "cifar10" and os.path.lexists(root / "cifar10.npz"):
        return _cifar10_npz(root / "cifar10.npz", standard)
    for folder in (root, _DEBIAN_FASHION) if spec.name == "fashion-mnist" and not url else (root,):
        for layout in standard.layouts:
            files = tuple(folder / name for name in layout)
            there = [path for path in files if os.path.lexists(path)]
            for path in there:
                if cause := fault(path):  # a download would write into it
                    raise InputError(f"data.dir: {path} {cause}; replace or remove it")
            if len(there) == len(files):
                return _found(spec.name, standard, folder, files)
    missing = _found(spec.name, standard, root, ())
    if url:
        choices = (*standard.layouts, *([("cifar10.npz",)] if spec.name == "cifar10" else []))
        return replace(missing, download=lambda: fetch(url, choices, root))
    return replace(missing, download=lambda: _download(spec.name, standard, root))


def _cifar10_npz(path: Path, standard: Standard) -> Source:
    source = npz_source(path, standard.classes)
    if source.shape != standard.shape:
        raise InputError(f"data.dir: {path} has images of shape {source.shape}, not (32, 32, 3); replace it")
    return source


def _found(name: str, standard: Standard, root: Path, files: tuple[Path, ...]) -> Source:
    def load() -> Shipped:
        try:
            splits = [standard.read(files, root, train) for train in (True, False)]
        except (OSError, RuntimeError, ValueError, EOFError, zlib.error) as error:
            raise InputError(
                f"data.dir: {name} in {root} cannot be read ({_line(error)}); replace its files"
            ) from error
        train, test = (Images.of(np.asarray(pixels, np.uint8), labels) for pixels, labels in splits)
        n = (len(train.labels), len(test.labels))
        if n != (expected := (sum(standard.counts.train), sum(standard.counts.test or ()))):
            raise InputError(
                f"data.dir: {name} in {root} has {n[0]} training and {n[1]} test images, not the published "
                f"{expected[0]} and {expected[1]}; replace its files"
            )
        return Shipped(train, None, test)

    return Source(standard.classes, standard.shape, standard.counts, files, load)


def _download(name: str, standard: Standard, root: Path) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT)  # torchvision sets none: a silent network would hang for ever
    try:
        root.mkdir(parents=True, exist_ok=True)
        standard.fetch(root)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise InputError(
            f"data.name: {name} is not in {root} and could not be downloaded ({_line(error)}); put its files there, or "
            "name their folder with --data-dir"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())

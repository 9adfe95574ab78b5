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

from search.data.source import Images, Source, npz_source
from search.errors import InputError, first_line, public, without_credentials
from search.spec import DataSpec
from search.storage import files, is_url, opened, paths

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
    train: tuple[int, ...]  # images of each class, as is test
    test: tuple[int, ...]
    files: tuple[str, ...]  # below the folder, as torchvision has them


def _below(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in names)


_IDX = [f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
_BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"]
STANDARD = {
    "mnist": Standard(
        "MNIST",
        _DIGITS,
        (28, 28, 1),
        train=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
        test=(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
        files=_below("MNIST/raw", *_IDX),
    ),
    "fashion-mnist": Standard(
        "FashionMNIST", _FASHION, (28, 28, 1), (6000,) * 10, (1000,) * 10, _below("FashionMNIST/raw", *_IDX)
    ),
    "cifar10": Standard(
        "CIFAR10", _CIFAR10, (32, 32, 3), (5000,) * 10, (1000,) * 10, _below("cifar-10-batches-py", *_BATCHES)
    ),
    "cifar100": Standard(
        "CIFAR100",
        tuple(_CIFAR100.split()),
        (32, 32, 3),
        (500,) * 100,
        (100,) * 100,
        _below("cifar-100-python", "train", "test", "meta"),
    ),
    "svhn": Standard(
        "SVHN",
        _DIGITS,
        (32, 32, 3),
        train=(4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
        test=(1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595),
        files=("train_32x32.mat", "test_32x32.mat"),
    ),
}


def digits_source() -> Source:
    """scikit-learn's 1797 handwritten digits, 8x8 with grey levels 0..16, here scaled to 0..255."""

    def load() -> dict[str, Images]:
        found = find_spec("sklearn")
        assert found is not None, "scikit-learn is installed with this package"
        file = Path(*found.submodule_search_locations or ()) / "datasets" / "data" / "digits.csv.gz"
        table = np.loadtxt(file, np.int64, delimiter=",")  # 64 pixels and a label; importing scikit-learn takes seconds
        pixels = np.rint(table[:, :-1] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
        return {"train": Images.of(pixels, table[:, -1])}

    counts = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)
    return Source(_DIGITS, (8, 8, 1), {"train": counts}, (), load)


def standard_source(spec: DataSpec) -> Source:
    """The raw files of `spec.name`, or, where they are not all there, the way to copy or download them.

    Raises:
        InputError: when `spec.dir` is no folder, when one of the files in it cannot be read as one, or when it holds a
            `cifar10.npz` that is not CIFAR-10.
    """
    standard = STANDARD[spec.name]
    url = spec.dir if spec.dir and is_url(spec.dir) else None
    cache = paths.user_cache() / "datasets"
    if url:
        root = cache / f"copy-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
    elif spec.dir is not None:
        root = paths.resolved(spec.dir, "data.dir")
        if not root.is_dir():
            raise InputError(f"data.dir = {spec.dir!r} is no folder; create it, or name the one with the raw files")
    else:
        root = cache.resolve()
    archive = root / "cifar10.npz"
    if spec.name == "cifar10" and os.path.lexists(archive):
        source = npz_source(archive, standard.classes)
        if source.shape != standard.shape:
            raise InputError(f"data.dir: {archive} has images of shape {source.shape}, not (32, 32, 3); replace it")
        return source
    raw = tuple(root / name for name in standard.files)
    there = [path for path in raw if os.path.lexists(path)]
    for path in there:
        if cause := paths.fault(path):  # a download would write into it
            raise InputError(f"data.dir: {path} {cause}; replace or remove it")

    def download() -> None:
        if url:
            _copy(url, [standard.files, *([(archive.name,)] if spec.name == "cifar10" else [])], root)
        else:
            _download(spec.name, standard, root)

    counts = {"train": standard.train, "test": standard.test}
    found = Source(standard.classes, standard.shape, counts, raw, lambda: _load(spec.name, standard, root))
    return found if len(there) == len(raw) else replace(found, files=(), download=download)


def _load(name: str, standard: Standard, root: Path) -> dict[str, Images]:
    found: dict[str, Images] = {}
    for split, counts in (("train", standard.train), ("test", standard.test)):
        try:
            data = _torchvision(standard, root, split, download=False)
            pixels, labels = np.asarray(data.data), np.asarray(data.labels if name == "svhn" else data.targets)
        except (OSError, RuntimeError, ValueError, TypeError, AssertionError, LookupError) as error:
            raise InputError(
                f"data.dir: {name} in {root} cannot be read ({first_line(error)}); replace its files"
            ) from error
        if name == "svhn":
            pixels = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))  # from (n, C, H, W)
        images = Images.of(pixels, labels)
        if pixels.shape[:3] != (sum(counts), *standard.shape[:2]) or tuple(np.bincount(images.labels)) != counts:
            raise InputError(
                f"data.dir: {name} in {root} has other {split} images than the {sum(counts)} that are published; "
                "replace its files"
            )
        found[split] = images
    return found


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
            f"data.name: {name} is not in {root} and could not be downloaded ({first_line(error)}); put its files "
            "there, or name their folder with --data-dir"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _copy(url: str, choices: Sequence[tuple[str, ...]], root: Path) -> None:
    """Copies the first of these sets of files that is whole below `url` into `root`. The caller holds a lock."""
    shown = public(url)
    try:
        store, path = opened(url)
        below = path.rstrip("/")
        chosen = next((names for names in choices if all(store.isfile(f"{below}/{name}") for name in names)), ())
        for name in chosen:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            files.replace(root / name, store.cat_file(f"{below}/{name}"))
    except Exception as error:  # whatever the store's client raises
        cause = " ".join(without_credentials(str(error), url).split())
        raise InputError(f"data.dir = {shown!r} cannot be read ({cause}); correct it, or the access to it") from error
    if not chosen:
        raise InputError(f"data.dir = {shown!r} does not hold {' and '.join(choices[0])}; put them there")

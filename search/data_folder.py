"""`imagefolder:PATH`: train/CLASS/*.jpg and, if shipped, val/ and test/ with the same class folders."""

import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.data_source import Counts, Images, Pixels, Shipped, Source
from search.data_split import class_counts
from search.errors import InputError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
DEFAULT_SIZE = 32  # pixels


def folder_source(root: Path, image_size: int) -> Source:
    """The images below `root`, RGB, resized by the shorter side to `image_size` pixels and cropped at the centre.

    Raises:
        InputError: when train/ or its class folders are missing, a class folder has no image, or the classes of val/ or
            test/ differ from those of train/.
    """
    root = root.resolve()
    train = _class_files(root, "train")
    if not train:
        raise InputError(
            f"data.name: there are no class folders in {root / 'train'}; put the images of each class into "
            f"{root / 'train'}/CLASS/"
        )
    if len(train) < 2:
        raise InputError(
            f"data.name: {root / 'train'} has the one class {next(iter(train))!r}; add a second class folder"
        )
    others = {split: _class_files(root, split) for split in ("val", "test") if (root / split).is_dir()}
    for split, found in others.items():
        if found.keys() != train.keys():
            odd = min(found.keys() ^ train.keys())
            where, lacks = (split, "train") if odd in found else ("train", split)
            raise InputError(
                f"data.name: class folder {odd!r} is in {root / where} but not in {root / lacks}; "
                "give both the same classes"
            )
    splits = {"train": train, **others}
    return _source(splits, image_size)


def _source(splits: dict[str, dict[str, list[Path]]], size: int) -> Source:
    names = tuple(splits["train"])
    files = {split: [path for paths in found.values() for path in paths] for split, found in splits.items()}
    labels = {
        split: np.repeat(np.arange(len(names), dtype=np.int64), [len(found[name]) for name in names])
        for split, found in splits.items()
    }

    def images(split: str) -> Images | None:
        return Images(labels[split], lambda indices: _read(files[split], indices, size)) if split in splits else None

    def load() -> Shipped:
        train = images("train")
        assert train is not None
        return Shipped(train, images("val"), images("test"))

    counts = {split: class_counts(values, len(names)) for split, values in labels.items()}
    every = tuple(path for split in splits for path in files[split])
    return Source(names, (size, size, 3), Counts(counts["train"], counts.get("val"), counts.get("test")), every, load)


def _class_files(root: Path, split: str) -> dict[str, list[Path]]:
    """Class name -> its image files, both sorted."""
    folder = root / split
    if not folder.is_dir():
        raise InputError(f"data.name: there is no folder {folder}; give the folder that holds train/ and val/ or test/")
    found: dict[str, list[Path]] = {}
    for entry in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        found[entry.name] = sorted(
            path for path in entry.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        )
        if not found[entry.name]:
            raise InputError(
                f"data.name: class folder {entry} has no image ({', '.join(sorted(SUFFIXES))}); add images or remove it"
            )
    return found


def _read(files: list[Path], indices: NDArray[np.int64], size: int) -> Pixels:
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes and resizes without the interpreter lock
        return np.stack(list(pool.map(lambda k: decode(files[k], size), indices.tolist())))


def decode(path: Path, size: int) -> Pixels:
    """One image as uint8 (size, size, 3): upright, shorter side resized to `size` (bilinear), cropped at the centre.

    Raises:
        InputError: naming the file, when it cannot be decoded or has more than 8 bits a channel.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            mode, upright = image.mode, ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise InputError(f"data.name: image {path} cannot be decoded ({error}); replace or remove it") from error
    if mode[0] in "IF":  # converting would clip the upper bits, silently
        raise InputError(f"data.name: image {path} has more than 8 bits a channel ({mode}); convert it to 8 bits")
    width, height = upright.size
    scale = size / min(width, height)
    wide, high = max(size, round(width * scale)), max(size, round(height * scale))
    left, top = (wide - size) // 2, (high - size) // 2
    resized = upright.resize((wide, high), Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + size, top + size)))

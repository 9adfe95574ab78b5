"""`imagefolder:PATH`: train/CLASS/*.jpg and, if shipped, val/ and test/ with the same class folders."""

from collections.abc import Generator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.cores import usable
from search.data_decode import decoded, processes_for
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

    def stream(split: str, indices: NDArray[np.int64]) -> Generator[Pixels]:
        chosen = [files[split][k] for k in indices.tolist()]
        return decoded(chosen, size, processes_for(len(chosen), usable()))

    def images(split: str) -> Images | None:
        return Images(labels[split], lambda indices: stream(split, indices)) if split in splits else None

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

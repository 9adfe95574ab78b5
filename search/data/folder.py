"""`imagefolder:PATH`: train/CLASS/*.jpg and, if shipped, val/ and test/ with the same classes; or CLASS/*.jpg alone."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.data.groups import groups_of
from search.data.source import Images, Pixels, Source, Unfit, UnfitError, is_name
from search.errors import InputError
from search.machine import usable
from search.storage import paths

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
DEFAULT_SIZE = 32  # pixels
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})  # names that no class has


def folder_source(root: Path, size: int, groups: str | None = None) -> Source:
    """The images below `root`, RGB, resized by the shorter side to `size` pixels and cropped at the centre.

    `groups` is the path of a file that gives each image a group.

    Raises:
        InputError: when train/ or its class folders are missing, a class folder has no image or an unfit name, an image
            is no file that can be read, the classes of val/ or test/ differ from those of train/, or as `groups_of`.
    """
    if not root.is_dir():
        raise InputError(f"data.name: there is no folder {root}; give the folder that holds those of the classes")
    alone = not any(os.path.lexists(root / split) for split in ("train", "val", "test"))
    top, unfit = root if alone else root / "train", list[Unfit]()
    train = _class_files(top, unfit)
    if not train:
        raise InputError(
            f"data.name: there are no class folders in {top}; put the images of each class into {top}/CLASS/"
        )
    if len(train) < 2:
        raise InputError(f"data.name: {top} has the one class {next(iter(train))!r}; add a second class folder")
    if alone and (splits := sorted(name for name in train if name.lower() in SPLITS)):
        raise InputError(f"data.name: {top / splits[0]} is no class; call the splits train, val and test")
    shipped = {"train": train}
    for split, folder in (("validation", root / "val"), ("test", root / "test")):
        if not os.path.lexists(folder):
            continue
        shipped[split] = _class_files(folder, unfit)
        if shipped[split].keys() != train.keys():
            odd = min(shipped[split].keys() ^ train.keys())
            where, lacks = (folder, root / "train") if odd in shipped[split] else (root / "train", folder)
            raise InputError(
                f"data.name: class folder {odd!r} is in {where} but not in {lacks}; give both the same classes"
            )

    if unfit:
        raise UnfitError(unfit)

    files = {split: [path for paths in found.values() for path in paths] for split, found in shipped.items()}
    names = {split: tuple(str(path.relative_to(root)) for path in files[split]) for split in files}

    def images(split: str) -> Images:
        from search.data.decode import decoded, processes_for  # noqa: PLC0415  torch, once images are read

        found = shipped[split]

        def stream(indices: NDArray[np.int64]) -> Generator[Pixels]:
            return decoded([files[split][k] for k in map(int, indices)], size, processes_for(len(indices), usable()))

        return Images(np.repeat(np.arange(len(found)), [len(paths) for paths in found.values()]), stream)

    return Source(
        classes=tuple(train),
        shape=(size, size, 3),
        counts={split: tuple(map(len, found.values())) for split, found in shipped.items()},
        files=tuple(path for found in files.values() for path in found),
        load=lambda: {split: images(split) for split in files},
        names=names,
        groups={} if groups is None else groups_of(groups, names),
        note=f"{root} has no train/: its {len(train)} folders are the classes, and the splits are made here"
        if alone
        else "",
    )


def _class_files(folder: Path, unfit: list[Unfit]) -> dict[str, list[Path]]:
    """Class name -> its image files, both sorted; those that are no files are added to `unfit`, too."""
    if not folder.is_dir():
        raise InputError(f"data.name: there is no folder {folder}; give the folder that holds train/ and val/ or test/")
    found: dict[str, list[Path]] = {}
    for entry in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if entry.is_symlink() and not entry.exists():  # a class that would be missing without a word
            raise InputError(f"data.name: {entry} is a link that leads nowhere; restore what it leads to, or remove it")
        if not entry.is_dir():
            continue
        if not is_name(entry.name):
            raise InputError(
                f"data.name: class folder {entry.name!r} in {folder} has a name with bytes that are not UTF-8, or with "
                "control characters; rename it"
            )
        found[entry.name] = sorted(_images(entry, unfit))
        if not found[entry.name]:
            raise InputError(
                f"data.name: class folder {entry} has no image ({', '.join(sorted(SUFFIXES))}); add images or remove it"
            )
    return found


def _images(folder: Path, unfit: list[Unfit]) -> Iterator[Path]:
    """The images in `folder` and in the folders below it, but for hidden ones; none of them is opened."""
    pending = [folder]
    while pending:
        for entry in os.scandir(pending.pop()):
            if entry.name.startswith("."):
                continue
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                pending.append(path)
            elif entry.is_symlink() and path.is_dir():  # it may lead to a folder that it is in
                raise InputError(
                    f"data.name: {path} is a link to a folder, which is not followed within a class folder; put the "
                    "folder itself there, or remove the link"
                )
            elif path.suffix.lower() in SUFFIXES:
                if cause := paths.fault(path):
                    unfit.append(Unfit(path, cause))
                yield path

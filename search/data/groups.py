"""`data.groups`: a CSV file of each image's path below the folder and its group, such as a patient or a site."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.errors import InputError
from search.storage import paths

HEAD = ["path", "group"]  # the first line of the file, which may be missing


def groups_of(file: str, names: Mapping[str, Sequence[str]]) -> dict[str, NDArray[np.int64]]:
    """Split -> the number of each image's group.

    Args:
        file: path of the CSV file.
        names: split -> the paths of its images, below the folder.

    Raises:
        InputError: the file cannot be read, lacks an image, or a group is in two splits that are shipped.
    """
    path = paths.resolved(file, "data.groups")
    given = _read(path)
    for split, images in names.items():
        if missing := [image for image in images if image not in given]:
            raise InputError(
                f"data.groups: {path} lacks {len(missing)} of {len(images)} images of {split}, such as {missing[0]}; "
                "give each image its group"
            )
    found = {split: [given[image] for image in images] for split, images in names.items()}
    of: dict[str, str] = {}
    for split, groups in found.items():
        if two := [group for group in groups if of.setdefault(group, split) != split]:
            raise InputError(
                f"data.groups: group {two[0]!r} is in {of[two[0]]} and in {split}; move its images to one of them"
            )
    numbers = {group: number for number, group in enumerate(sorted(of))}
    return {split: np.array([numbers[group] for group in groups], np.int64) for split, groups in found.items()}


def _read(path: Path) -> dict[str, str]:
    if cause := paths.fault(path):
        raise InputError(f"data.groups: {path} {cause}; give a CSV file of lines PATH,GROUP")
    try:
        rows = [row for row in csv.reader(path.read_text(encoding="utf-8-sig").splitlines()) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"data.groups: {path} is no CSV file ({error}); write lines PATH,GROUP in UTF-8") from error
    rows = rows[1:] if rows[:1] == [HEAD] else rows
    if odd := next((row for row in rows if len(row) != 2), None):
        raise InputError(f"data.groups: {path} has a line of {len(odd)} fields, {','.join(odd)!r}; write PATH,GROUP")
    return {str(Path(name)): group for name, group in rows}

"""Files that are replaced whole, and folders that are written aside before they get their name."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import psutil

SUMS = "SHA256SUMS"  # the file of `checksums`


def replace(path: Path, data: bytes) -> None:
    """A reader, a kill at any instant or a power cut finds the old file or the new one, never a part.

    Raises:
        OSError: the folder is missing, full or cannot be written; the old file is as it was.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file that can be made again; empty where the file is missing or damaged."""
    try:
        found: Any = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}


def sweep(folder: Path) -> None:
    """Removes what `replace` left of files in a folder when its process was killed."""
    for path in folder.glob(".*.tmp"):
        writer = re.fullmatch(r"\..+\.(\d+)\.tmp", path.name)
        if writer and not psutil.pid_exists(int(writer[1])):
            path.unlink(missing_ok=True)


def checksums(contents: Mapping[str, bytes]) -> bytes:
    """A line for each file, as `sha256sum --check` reads it."""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in contents.items()).encode()


def fill(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Makes a folder of these files, forced to the disk; it is for the caller to rename it then, and to force that."""
    folder.mkdir()
    for name, data in contents.items():
        with (folder / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    sync(folder)


def sync(folder: Path) -> None:
    """Forces the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

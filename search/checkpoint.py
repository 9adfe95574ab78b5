"""A trial's state on disk: whole or not at all, checked when read, the last two kept."""

import hashlib
import json
import logging
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load, save

from search.train import State

KEPT = 2
WEIGHTS, MOMENTUM, AVERAGE, INDEX = "model.safetensors", "momentum.safetensors", "average.safetensors", "state.json"
SUMS = "SHA256SUMS"  # of all the others, as `sha256sum --check` reads it
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """State of a trial after its last epoch, with the metrics of all epochs so far."""

    state: State
    history: list[dict[str, Any]]  # one record an epoch, from epoch 1


def write(folder: Path, checkpoint: Checkpoint) -> Path:
    """Adds a checkpoint to the trial's folder and removes all but the last two. Returns its path.

    On return it survives a power cut. Where there is one of this epoch, that one stays: it was written by a worker that
    had been given up for dead, and is of the same state.

    Raises:
        OSError: disk full or not writable; the checkpoints before it are left as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"epoch-{checkpoint.state.epoch:06d}"
    part = folder / f".{final.name}-{uuid.uuid4().hex}.part"  # of this process alone
    try:
        _fill(part, checkpoint)
        part.rename(final)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        if not final.is_dir():
            raise
    _sync(folder)
    for old in paths(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)  # the other worker may be removing it
    return final


def _fill(part: Path, checkpoint: Checkpoint) -> None:
    state = checkpoint.state
    contents = {WEIGHTS: save(state.weights), MOMENTUM: save(state.momentum)}
    if state.average:
        contents[AVERAGE] = save(state.average)
    index = {"epoch": state.epoch, "compiled": state.compiled, "history": checkpoint.history}
    contents[INDEX] = json.dumps(index).encode()
    sums = "".join(f"{_digest(data)}  {name}\n" for name, data in contents.items())
    part.mkdir()
    for name, data in (contents | {SUMS: sums.encode()}).items():
        with (part / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    _sync(part)


def _sync(folder: Path) -> None:
    """Forces the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def paths(folder: Path) -> list[Path]:
    """Checkpoints of a trial, oldest first."""
    return sorted(folder.glob("epoch-??????"))


def latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole. A damaged one is renamed `*.damaged`, with a warning.

    What a killed worker left of one that it had not finished is removed.
    """
    for part in folder.glob(".epoch-*.part"):
        shutil.rmtree(part, ignore_errors=True)
    for path in reversed(paths(folder)):
        try:
            return _read(path)
        except (OSError, ValueError, KeyError) as damage:
            log.warning("%s is damaged (%s); using the checkpoint before it", path, damage)
            aside = path.with_name(path.name + ".damaged")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
    return None


def _read(path: Path) -> Checkpoint:
    listed = (line.split("  ") for line in (path / SUMS).read_text().splitlines())
    contents: dict[str, bytes] = {}
    for digest, name in listed:
        contents[name] = (path / name).read_bytes()
        if _digest(contents[name]) != digest:
            raise ValueError(f"{name} does not match its checksum")
    index = json.loads(contents.pop(INDEX))
    tensors = {name: load(data) for name, data in contents.items()}
    weights, momentum = tensors[WEIGHTS], tensors[MOMENTUM]
    state = State(index["epoch"], weights, momentum, tensors.get(AVERAGE, {}), index["compiled"])
    return Checkpoint(state, index["history"])


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def validated(path: Path) -> Path:
    """The weights in a checkpoint that its validation figures are of: the averaged ones where there are any."""
    return path / AVERAGE if (path / AVERAGE).exists() else path / WEIGHTS

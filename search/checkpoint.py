"""A trial's state on disk: whole or not at all, checked when read, the last two kept."""

import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load, save

from search.train import State

KEPT = 2
WEIGHTS, MOMENTUM, AVERAGE, INDEX = "model.safetensors", "momentum.safetensors", "average.safetensors", "state.json"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """State of a trial after its last epoch, with the metrics of all epochs so far."""

    state: State
    history: list[dict[str, Any]]  # one record an epoch, from epoch 1


def write(folder: Path, checkpoint: Checkpoint) -> Path:
    """Adds a checkpoint to the trial's folder and removes all but the last two. Returns its path.

    Raises:
        OSError: disk full or not writable; the checkpoints before it are left as they were.
    """
    final = folder / f"epoch-{checkpoint.state.epoch:06d}"
    part = folder / f".{final.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    state = checkpoint.state
    contents = {WEIGHTS: save(state.weights), MOMENTUM: save(state.momentum)}
    if state.average:
        contents[AVERAGE] = save(state.average)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    index = {"epoch": state.epoch, "compiled": state.compiled, "sha256": digests, "history": checkpoint.history}
    contents[INDEX] = json.dumps(index).encode()
    for name, data in contents.items():
        with (part / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    if final.exists():  # the same epoch trained again after a damaged checkpoint
        shutil.rmtree(final)
    part.rename(final)
    for old in paths(folder)[:-KEPT]:
        shutil.rmtree(old)
    return final


def paths(folder: Path) -> list[Path]:
    """Checkpoints of a trial, oldest first."""
    return sorted(folder.glob("epoch-??????"))


def latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole. A damaged one is renamed `*.damaged`, with a warning."""
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
    index = json.loads((path / INDEX).read_bytes())
    tensors = {}
    for name, digest in index["sha256"].items():
        data = (path / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError(f"{name} does not match its checksum")
        tensors[name] = load(data)
    weights, momentum, average = (tensors.get(name, {}) for name in (WEIGHTS, MOMENTUM, AVERAGE))
    return Checkpoint(State(index["epoch"], weights, momentum, average, index["compiled"]), index["history"])


def validated(path: Path) -> Path:
    """The weights in a checkpoint that its validation figures are of: the averaged ones where there are any."""
    return path / AVERAGE if (path / AVERAGE).exists() else path / WEIGHTS

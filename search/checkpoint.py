"""A trial's state on disk: whole or not at all, checked when read, the last two kept."""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from search.checkpoint_files import SUMS, Files, files_in
from search.train import State
from search.whole_file import checksums

KEPT = 2
WEIGHTS, MOMENTUM, AVERAGE, INDEX = "model.safetensors", "momentum.safetensors", "average.safetensors", "state.json"
FILES = WEIGHTS, MOMENTUM, AVERAGE, INDEX
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """State of a trial after its last epoch, with the metrics of all epochs so far."""

    state: State
    history: list[dict[str, Any]]  # one record an epoch, from epoch 1


def write(folder: Path | str, checkpoint: Checkpoint) -> str:
    """Adds a checkpoint to the trial's folder (a path or a URL) and removes all but the last two; where it lies.

    On return it survives a power cut.

    Raises:
        OSError: disk full or not writable; the checkpoints before it are left as they were.
        Halted: the URL's store does not answer, or refuses.
    """
    files = files_in(folder)
    state = checkpoint.state
    contents = {WEIGHTS: save(state.weights), MOMENTUM: save(state.momentum)}
    if state.average:
        contents[AVERAGE] = save(state.average)
    index = {"epoch": state.epoch, "compiled": state.compiled, "history": checkpoint.history}
    contents[INDEX] = json.dumps(index).encode()
    written = files.put(state.epoch, contents | {SUMS: checksums(contents)})
    kept = files.names()[-KEPT:]
    files.drop(before=kept[0])
    return files.where(written)


def paths(folder: Path | str) -> list[str]:
    """Checkpoints of a trial, oldest first."""
    files = files_in(folder)
    return [files.where(name) for name in files.names()]


def latest(folder: Path | str) -> Checkpoint | None:
    """The newest checkpoint that is whole. A damaged one is renamed `*.damaged`, with a warning.

    What a killed worker left of one that it had not finished is removed.
    """
    files = files_in(folder)
    files.sweep()
    for name in reversed(files.names()):
        try:
            return _read(files, name)
        except (OSError, ValueError, LookupError, TypeError, RecursionError, SafetensorError) as damage:
            log.warning("%s is damaged (%s); using the checkpoint before it", files.where(name), damage)
            files.set_aside(name)
    return None


def _read(files: Files, checkpoint: str) -> Checkpoint:
    listed = (line.split("  ") for line in files.read(checkpoint, SUMS).decode().splitlines())
    contents: dict[str, bytes] = {}
    for digest, name in listed:
        if name not in FILES:
            raise ValueError(f"{name!r} is no file of a checkpoint")
        contents[name] = files.read(checkpoint, name)
        if _digest(contents[name]) != digest:
            raise ValueError(f"{name} does not match its checksum")
    index = json.loads(contents.pop(INDEX))
    tensors = {name: load(data) for name, data in contents.items()}
    weights, momentum = tensors[WEIGHTS], tensors[MOMENTUM]
    epoch, history = index["epoch"], index["history"]
    if not isinstance(epoch, int) or not isinstance(history, list) or not all(isinstance(e, dict) for e in history):
        raise ValueError(f"{INDEX} is no record of epochs")
    return Checkpoint(State(epoch, weights, momentum, tensors.get(AVERAGE, {}), index["compiled"]), history)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def validated(folder: Path | str) -> str | None:
    """The weights in a trial's newest checkpoint that its validation figures are of: averaged ones where there are any.

    None where there is no checkpoint.
    """
    files = files_in(folder)
    newest = files.names()[-1:]
    return next((f"{files.where(n)}/{AVERAGE if files.has(n, AVERAGE) else WEIGHTS}" for n in newest), None)

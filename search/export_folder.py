"""The folder of an exported network, written whole or not at all."""

import glob
import hashlib
import io
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load

from resnet import build
from resnet.classifier import Scaled
from resnet.exported import CONFIG, WEIGHTS, Exported
from search import export_graph as graphs
from search.checkpoint_files import SUMS
from search.errors import InputError
from search.export_card import card
from search.exportable import Exportable
from search.whole_file import checksums, fill, sync

CARD, ONNX, PT2, EXAMPLES = "README.md", "model.onnx", "model.pt2", "examples.npy"
CHECKED = CONFIG, WEIGHTS, ONNX, PT2  # against SHA256SUMS; the card and the images are the user's to change or remove
FILES = {*CHECKED, SUMS, CARD, EXAMPLES}
SHOWN = 4  # real images in the folder, to try it with
COMPARED = 256  # real images on which the graphs must give the network's logits


def export(folder: Path, model: Exportable) -> Exported:
    """Writes the folder: weights, description, model card, ONNX, torch.export's program and four images.

    The graphs are compared, on images of the validation split, with the network as `resnet` builds it.

    Raises:
        InputError: the folder has something in it, or is a file.
        NotTheSame: a graph gives other logits; nothing is written.
        OSError: the disk is full or cannot be written; nothing is left in the folder.
    """
    check_free(folder)
    with _aside(folder, model) as (partial, config):
        check_free(folder)  # again: this took a while
        partial.rename(folder)  # in place of an empty one, too
    sync(folder.absolute().parent)
    return config


def renew(folder: Path, model: Exportable) -> None:
    """As `export`, in place of an earlier export, which is there until the new one is whole.

    `mend` finishes what a kill between the two renames leaves. It is for one process at a time.

    Raises:
        InputError: something is there that no export has written.
        NotTheSame: a graph gives other logits; the earlier export stays.
        OSError: the disk is full or cannot be written; the earlier export stays.
    """
    _check_own(folder)
    with _aside(folder, model) as (partial, _):
        _check_own(folder)  # again: this took a while
        if folder.exists():
            folder.rename(_hidden(folder, "old"))
        try:
            partial.rename(folder)
        finally:
            mend(folder)
    sync(folder.parent)


def mend(folder: Path) -> None:
    """Removes what a process that died in `renew` left; the earlier export comes back where the new one is missing."""
    named = f".{glob.escape(folder.name)}.*"
    earlier = sorted(folder.parent.glob(f"{named}.old"))
    if earlier and not folder.exists():
        earlier.pop().rename(folder)
    for left in (*earlier, *folder.parent.glob(f"{named}.partial")):
        if not _foreign(left):
            shutil.rmtree(left)


def is_whole(folder: Path) -> bool:
    """Whether an export is there, and what is read of it is as it was written."""
    try:
        return (folder / SUMS).read_bytes() == checksums({name: (folder / name).read_bytes() for name in CHECKED})
    except OSError:  # what cannot be read is of no use to anybody
        return False


def check_free(folder: Path) -> None:
    """Refuses a place where something is.

    Raises:
        InputError: the folder has something in it, or is a file.
    """
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        kind = "has something in it" if folder.is_dir() else "is a file"
        raise InputError(f"--to = {str(folder)!r} {kind}; name a folder that is new or empty")


def _check_own(folder: Path) -> None:
    foreign = _foreign(folder)
    if foreign:
        listed = ", ".join(map(str, foreign[:3])) + (" and more" if len(foreign) > 3 else "")
        raise InputError(f"no export has written {listed}, which a new one would replace; move it away")


def _foreign(folder: Path) -> list[Path]:
    """What is in the place of an export and was not written by one, so that it must not be deleted."""
    if folder.is_symlink() or folder.is_file():
        return [folder]
    found = folder.iterdir() if folder.exists() else []
    return sorted(p for p in found if p.name not in FILES or (p.is_dir() and not p.is_symlink()))


def _hidden(folder: Path, ending: str) -> Path:
    return folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.{ending}")


@contextmanager
def _aside(folder: Path, model: Exportable) -> Iterator[tuple[Path, Exported]]:
    """The export in a folder beside, which is to be renamed, and its description."""
    weights = model.weights.read_bytes()
    config = model.config(hashlib.sha256(weights).hexdigest())
    contents = _contents(model, config, weights)
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = _hidden(folder, "partial")
    try:
        fill(partial, contents)
        yield partial, config
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _contents(model: Exportable, config: Exported, weights: bytes) -> dict[str, bytes]:
    net = build(config.net)
    net.load_state_dict(load(weights))
    network = Scaled(net, config.mean, config.std).eval()
    images = np.array(model.data.validation().images[:COMPARED])
    logits = graphs.run_network(network, images)
    graph = graphs.program(network, config.image.shape)
    pt2, onnx = graphs.pt2(graph), graphs.onnx(graph, config.classes)
    apart = max(
        graphs.check("the exported program", logits, graphs.run_pt2(pt2, images)),
        graphs.check("the ONNX model", logits, graphs.run_onnx(onnx, images)),
    )
    examples = io.BytesIO()
    np.save(examples, images[:SHOWN])
    answers = [config.classes[k] for k in torch.from_numpy(logits[:SHOWN]).argmax(1).tolist()]
    text = card(model, config, answers, apart, len(images))
    described = config.model_dump_json(indent=2).encode() + b"\n"
    checked = {CONFIG: described, WEIGHTS: weights, ONNX: onnx, PT2: pt2}  # in the order of CHECKED
    return checked | {CARD: text.encode(), EXAMPLES: examples.getvalue(), SUMS: checksums(checked)}

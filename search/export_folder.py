"""The folder of an exported network, written whole or not at all."""

import hashlib
import io
import shutil
import uuid
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load

from resnet import build
from resnet.classifier import Scaled
from resnet.exported import CONFIG, WEIGHTS, Exported
from search import export_graph as graphs
from search.errors import InputError
from search.export_card import card
from search.exportable import Exportable
from search.whole_file import fill, sync

CARD, ONNX, PT2, EXAMPLES = "README.md", "model.onnx", "model.pt2", "examples.npy"
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
    weights = model.weights.read_bytes()
    config = model.config(hashlib.sha256(weights).hexdigest())
    contents = _contents(model, config, weights)
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    try:
        fill(partial, contents)
        check_free(folder)  # again: this took a while
        partial.rename(folder)  # in place of an empty one, too
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sync(folder.parent)
    return config


def check_free(folder: Path) -> None:
    """Refuses a place where something is.

    Raises:
        InputError: the folder has something in it, or is a file.
    """
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        kind = "has something in it" if folder.is_dir() else "is a file"
        raise InputError(f"--to = {str(folder)!r} {kind}; name a folder that is new or empty")


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
    return {
        WEIGHTS: weights,
        CONFIG: config.model_dump_json(indent=2).encode() + b"\n",
        CARD: text.encode(),
        ONNX: onnx,
        PT2: pt2,
        EXAMPLES: examples.getvalue(),
    }

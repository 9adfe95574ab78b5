"""Networks that are really trained for a few epochs, to be exported."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from resnet import NetSpec, build
from search.data import Prepared
from search.export.trained import Exportable, Facts
from search.spec import TrainSpec, TrialSpec
from search.training import Resident, train

NET = NetSpec(depth=8, version="v2", in_channels=1, num_classes=10)
TRAINED = TrialSpec(net=NET, train=TrainSpec(epochs=3, batch_size=32, crop_padding=1, flip=False))
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Made:
    """A trained network, its folder, and the test split with what the network says of it."""

    model: Exportable
    folder: Path
    images: np.ndarray[Any, Any]  # uint8 (n, 8, 8, 1)
    labels: np.ndarray[Any, Any]
    logits: np.ndarray[Any, Any]  # of `build` and `Resident`, as training validates: not of what is exported


def trained(spec: TrialSpec, prepared: Prepared, weights: Path) -> Exportable:
    """`spec` trained on the training split; its weights are written."""
    scale = prepared.info.mean, prepared.info.std
    training, validation = (Resident.load(s, *scale, CPU) for s in (prepared.train(), prepared.validation()))
    torch.set_num_threads(1)  # as a trial has; several that wait for one another crawl where others work too
    *_, last = train(spec, training, validation)
    save_file(last.state().weights, weights)
    facts = Facts("digits", "Digits.", "trial 0", "the only one", len(training), last.number, last.metrics["val/error"])
    return Exportable(spec, weights, prepared, facts)


def said(model: Exportable) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Images and labels of the test split, and the logits of the network as training evaluates it."""
    net = build(model.spec.net).eval()
    net.load_state_dict(load_file(model.weights))
    test = model.data.test()
    resident = Resident.load(test, model.data.info.mean, model.data.info.std, CPU)
    with torch.no_grad():
        logits = net(resident.normalise(resident.images)).numpy()
    return np.array(test.images), np.array(test.labels), logits

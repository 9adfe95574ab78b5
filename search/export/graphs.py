"""A network as a graph that runs without this package, ONNX, checked on real images."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnet.classifier import Scaled

ATOL, RTOL = 1e-4, 1e-5  # of logits; the second is for those beyond 10, where float32 itself is no finer
AT_ONCE = 32  # images: large ones take hundreds of megabytes a layer
INPUT, OUTPUT = "images", "logits"

Pixels = NDArray[np.uint8]
Logits = NDArray[np.float32]


class NotTheSame(Exception):  # noqa: N818 - the network cannot be exported; a sentence
    """The graph does not give the network's numbers."""


def installed() -> bool:
    """Whether what ONNX takes, the extra `export`, is there."""
    return all(find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript"))


def onnx(network: Scaled, shape: tuple[int, int, int], classes: Sequence[str]) -> bytes:
    """An ONNX model: `images` uint8 (n, H, W, C) -> `logits` (n, classes); the classes' names are in its metadata."""
    example = torch.zeros((2, *shape), dtype=torch.uint8)  # of one, torch would take the number for a constant
    graph = torch.export.export(network.eval(), (example,), dynamic_shapes={INPUT: {0: torch.export.Dim("n")}})
    with _quiet():
        made = torch.onnx.export(
            graph,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={INPUT: {0: "n"}},  # the graph has one already: this names it
            dynamo=True,
            verbose=False,
        )
    assert made is not None
    made.model.metadata_props["classes"] = json.dumps(list(classes))
    return made.model_proto.SerializeToString()


def run_network(network: Scaled, images: Pixels) -> Logits:
    """The network's own logits.

    Raises:
        NotTheSame: they are no finite numbers, so that nothing can be compared with them.
    """
    with torch.no_grad():
        logits = np.concatenate([network(torch.from_numpy(part)).numpy() for part in _parts(images)])
    if not np.isfinite(logits).all():
        raise NotTheSame("the network's logits are not finite on images of its validation split; choose another trial")
    return logits


def run_onnx(file: bytes, images: Pixels) -> Logits:
    """What ONNX Runtime gives."""
    run = runner(file)
    return np.concatenate([run(part) for part in _parts(images)])


def runner(file: bytes, threads: int = 0) -> Callable[[Pixels], Logits]:
    """ONNX Runtime with the graph, on so many cores (0: all)."""
    import onnxruntime  # noqa: PLC0415  of the extra `export`

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session: Any = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def _parts(images: Pixels) -> list[Pixels]:
    return [images[start : start + AT_ONCE] for start in range(0, len(images), AT_ONCE)]


def check(name: str, expected: Logits, found: Logits) -> float:
    """The largest difference of two routes' logits.

    Raises:
        NotTheSame: it is beyond 1e-4 (+ 1e-5 of the logit).
    """
    difference = float(np.abs(expected - found).max(initial=0.0))
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=RTOL, atol=ATOL):
        raise NotTheSame(
            f"{name} gives other logits than the network ({difference:.2g} apart on images of the validation split, "
            f"{ATOL:g} are allowed), so nothing was written; try other versions of torch and onnx"
        )
    return difference


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' lines about what they do, none of which a user can act on."""
    with ExitStack() as after, warnings.catch_warnings():
        for logger in map(logging.getLogger, ("torch.onnx", "onnxscript", "onnx_ir")):
            after.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        yield

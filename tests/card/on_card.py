"""What runs on the stand-in for a GPU: `python -m tests.card.on_card PART ...`, with the stand-in preloaded.

Prints what the card has seen in each part, as JSON. `conftest.py` builds the stand-in.
"""

import ctypes
import gc
import json
import logging
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from resnet import NetSpec
from search import training
from search.data import Split, prepare
from search.execution import packing
from search.execution.worker import TrialWorker
from search.spec import DataInfo, DataSpec, TrainSpec, TrialSpec
from search.training import loop, step
from search.training.batches import Resident
from search.training.loop import State, train
from tests.card.cases import CASES, IMAGES


class Card:
    """What the stand-in has seen and is told: `stand_in/card.cpp`."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        for name in ("nodes", "captured", "launched", "violations", "used"):
            getattr(self._library, f"card_{name}").restype = ctypes.c_size_t
        self._library.card_violation.restype = ctypes.c_char_p
        self._library.card_violation.argtypes = [ctypes.c_size_t]
        self._library.card_node.restype = ctypes.c_char_p
        self._library.card_node.argtypes = [ctypes.c_size_t]
        self._library.card_set_total.argtypes = [ctypes.c_size_t]

    def __getattr__(self, name: str) -> int:
        return getattr(self._library, f"card_{name}")()

    def forbidden(self) -> list[str]:
        """What was asked that a capture forbids, since the last call."""
        asked = [self._library.card_violation(number).decode() for number in range(self.violations)]
        self._library.card_clear_violations()
        return asked

    def names(self) -> list[str]:
        """Of the nodes of the last capture."""
        return [self._library.card_node(number).decode() for number in range(self.nodes)]

    def fail_on(self, name: str) -> None:
        """Work of which the name has this fails when it is captured; empty: none."""
        self._library.card_fail_on(name.encode())

    def holds(self, size: int) -> None:
        """The card's memory in bytes, from now on."""
        self._library.card_set_total(size)


card = Card()
DEVICE = torch.device("cuda", 0)
MIB = 2**20
WHOLE = 141 * 2**30  # bytes of its memory


def split(side: int = 32, streamed: bool = False, images: int = IMAGES) -> Resident:
    pixels = torch.randint(0, 256, (images, side, side, 3), dtype=torch.uint8)
    labels = torch.zeros(images, dtype=torch.int64, device=DEVICE)
    scale = torch.ones(3, device=DEVICE)
    return Resident(pixels if streamed else pixels.to(DEVICE), labels, scale, scale, streamed)


def spec(net: dict[str, Any], fields: dict[str, Any]) -> TrialSpec:
    return TrialSpec(net=NetSpec(**({"depth": 8} | net)), train=TrainSpec(**({"epochs": 1} | fields)))


class Told(logging.Handler):
    """What is logged, in place of printing it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


told = Told()


def seen(run: Callable[[], list[int]]) -> dict[str, Any]:
    """What the card saw: captures, nodes of the last, launches, what a capture forbids; and what was logged.

    `run` trains, and says which epochs.
    """
    card.forbidden()
    told.lines.clear()
    captured, launched = card.captured, card.launched
    return {
        "epochs": run(),
        "captured": card.captured - captured,
        "launched": card.launched - launched,
        "nodes": card.nodes,
        "forbidden": card.forbidden(),
        "told": [*told.lines],
    }


def trial(
    net: dict[str, Any],
    fields: dict[str, Any],
    streamed: bool = False,
    resume: State | None = None,
    validated: bool = False,
    compiler: training.Compiler | None = None,
) -> dict[str, Any]:
    """Trains; see `seen`."""
    asked = spec(net, fields)
    side = 64 if asked.net.family == "imagenet" else 32
    validation = split(side, images=64) if validated else None
    epochs = train(asked, split(side, streamed), validation, resume, compiler)
    return seen(lambda: [epoch.number for epoch in epochs])


def together(
    count: int,
    net: dict[str, Any],
    *fields: dict[str, Any],
    streamed: bool = False,
    starts: Mapping[int, State] = MappingProxyType({}),
) -> dict[str, Any]:
    """Trains so many seeds together; see `seen`. `fields` are of all, or of each in turn.

    Beside it the most that torch's allocator held, in MiB, and for each how many numbers its network has drawn.
    """
    steps: list[step.Step] = []
    make = loop.Step

    def kept(*arguments: Any) -> step.Step:
        steps.append(make(*arguments))
        return steps[-1]

    of_each = fields * count if len(fields) == 1 else fields
    trainings = [
        (spec(net, own | {"seed": seed}), starts.get(seed)) for seed, own in zip(range(count), of_each, strict=True)
    ]
    left()
    loop.Step = kept
    try:
        epochs = loop.train_together(trainings, split(streamed=streamed), None)
        found = seen(lambda: [epoch.number for several in epochs for epoch in several])
    finally:
        loop.Step = make
    drawn = [[one.generator.initial_seed(), one.generator.get_offset()] for one in steps]
    return found | {"drawn": drawn, "reserved": torch.cuda.max_memory_reserved() / MIB}


def left() -> int:
    """Bytes of the card that are taken when nothing trains."""
    gc.collect()
    torch.cuda.empty_cache()
    return card.used


def cases() -> dict[str, Any]:
    """Each case as one epoch of training."""
    return {name: trial(net, fields, streamed) for name, (net, fields, streamed) in CASES.items()}


def reading(read: Callable[[torch.Tensor], Any]) -> dict[str, Any]:
    """A trial whose step asks for something of its loss."""
    loss = step.training_loss

    def asked(*arguments: Any) -> torch.Tensor:
        found = loss(*arguments)
        read(found)
        return found

    step.training_loss = asked
    try:
        return trial({}, {})
    finally:
        step.training_loss = loss


def faults() -> dict[str, Any]:
    """What a capture forbids is asked, and what it needs fails; after each, a trial of which nothing fails."""
    found: dict[str, Any] = {}
    for name, read in {
        "item": torch.Tensor.item,
        "nonzero": torch.Tensor.nonzero,
        "mask": lambda loss: loss[None][loss[None] > 0],
        "cpu": torch.Tensor.cpu,
        "synchronize": lambda loss: torch.cuda.synchronize(),
        "event": lambda loss: torch.cuda.current_stream().record_event().query(),
    }.items():
        found[name] = reading(read)
        found[f"{name}, the next"] = trial({}, {})
    dropout = {"shortcut": "dropout"}
    for name, (net, fields, work) in {
        "forward": ({}, {}, "softmax_warp_forward"),
        "backward": ({}, {}, "backward filter"),
        "optimiser": ({}, {}, "FusedSgd"),
        "dropout": (dropout, {}, "softmax_warp_forward"),
        "dropped branches": ({}, {"stochastic_depth": 0.5}, "softmax_warp_forward"),
    }.items():
        card.fail_on(work)
        found[name] = trial(net, fields)
        card.fail_on("")
        found[f"{name}, the next"] = trial(net, fields)
        found[f"{name}, dropout after it"] = trial(dropout, {})
    return found


def unread() -> dict[str, Any]:
    """Trains a trial whose evaluation cannot be captured: the kernel that fails here runs only in evaluation."""
    card.fail_on("calc_invstd")
    found = trial({}, {"epochs": 5}, validated=True)
    card.fail_on("")
    return found


def failing() -> list[int]:
    """Bytes that are left taken after each of some trials whose capture fails."""
    card.fail_on("softmax_warp_forward")
    return [left() for _ in range(6) if trial({}, {})]


FROZEN = {"freeze_epochs": 1, "start": "w.safetensors"}


def longer() -> dict[str, Any]:
    """Trials of several epochs, and what they leave."""
    frozen = {"epochs": 3} | FROZEN
    first, *_ = train(spec({}, {"epochs": 2}), split(), None)
    averaged, *_ = train(spec({}, {"epochs": 2, "ema": 0.9, "optimizer": "adamw"}), split(), None)
    return {
        "validated": trial({}, {"epochs": 5, "ema": 0.9}, validated=True),
        "smaller": trial({}, {"epochs": 5, "image_size": 24}, validated=True),
        "not captured": unread(),
        "frozen": trial({}, {**frozen, "epochs": 1}),
        "thawed": trial({}, frozen),
        "thawed, averaged": trial({}, frozen | {"ema": 0.9, "optimizer": "adamw"}),
        "continued": trial({}, {"epochs": 2}, resume=first.state()),
        "continued, averaged": trial(
            {}, {"epochs": 2, "ema": 0.9, "optimizer": "adamw"}, resume=averaged.state(), validated=True
        ),
    }


RANDOM = {"shortcut": "dropout"}, {"stochastic_depth": 0.5, "ema": 0.9}


def branches() -> dict[str, Any]:
    """Seeds that are trained together: of a plain network; of one that draws numbers; and their captures."""
    first, *_ = train(spec({}, {"epochs": 2}), split(), None)
    card.fail_on("softmax_warp_forward")
    failing = together(3, *RANDOM)
    card.fail_on("")
    return {
        "plain": {count: together(count, {"depth": 20}, {}) for count in (1, 2, 5)},
        "random": {count: together(count, *RANDOM) for count in (1, 2, 5)},
        "streamed": together(2, {}, {"mixup": 0.4}, streamed=True),
        "frozen for different times": together(2, {}, {"epochs": 3}, {"epochs": 3} | FROZEN),
        "one waits": together(2, {}, {"epochs": 2}, starts={0: first.state()}),
        "failing": failing,
        "after it": together(3, *RANDOM),
    }


def parted() -> str:
    """Why a capture ends whose side stream nothing waits for."""
    side, x = torch.cuda.Stream(DEVICE), torch.zeros(1, device=DEVICE)
    try:
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                x.add_(1)
    except RuntimeError as error:
        return str(error)
    return ""


def groups() -> list[int]:
    """Bytes that are left taken after each of some groups, of which every other one is larger."""
    return [left() for number in range(20) if together(5 if number % 2 else 3, *RANDOM)]


def nodes() -> dict[str, int]:
    """Of a step of the papers' networks."""
    nets = {"20": {"depth": 20}, "56": {"depth": 56}, "110": {"depth": 110}}
    nets["164"] = {"depth": 164, "unit": "bottleneck", "version": "v2"}
    return {name: trial(net, {})["nodes"] for name, net in nets.items()}


def trials_of(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Configurations of a worker's trials on the images of digits, of which no two are the same size in turn."""
    data = DataSpec(name="digits", limit=600)
    prepared = prepare(data)
    folder = Path(tempfile.mkdtemp())
    fixed = {"net.in_channels": 1, "net.num_classes": 10, "train.epochs": 1, "train.crop_padding": 0}
    return [
        {
            "number": number,
            "spec": TrialSpec.from_flat(fixed | {"net.depth": 8} | fields).model_dump(mode="json"),
            "folder": str(folder / str(number)),
            "epochs_known": 0,
            "rungs": [],
            "data": data.model_dump(mode="json"),
            "prepared": [str(prepared.folder), prepared.info.digest],
            "weights": None,
            "others": [],
            "software": None,
            "processes": 1,
            "threads": 1,
            "compile": False,
            "gpus": 1.0,
            "final": False,
        }
        for number in range(count)
    ]


def run(configs: list[dict[str, Any]], before: Callable[[int], None] = lambda number: None) -> Iterator[dict[str, Any]]:
    """All of these trials in one worker: its first report, its memory at the most, and what stays taken."""
    worker = TrialWorker(configs[0])
    for number, config in enumerate(configs):
        before(number)
        if number:
            worker.reset_config(config)
            worker.config = config
        launched = card.launched
        report = worker.step()
        yield {
            "report": report,
            "launched": card.launched - launched,
            "reserved": torch.cuda.max_memory_reserved(),
            "taken": card.used,
        }


def worker() -> list[dict[str, Any]]:
    """Twenty trials of one worker."""
    return list(run(trials_of(20, **{"net.width": 4.0, "train.batch_size": 64})))


def full() -> list[dict[str, Any]]:
    """A trial, one for which the card has too little memory, and one more."""
    small, large = trials_of(3), trials_of(3, **{"net.width": 64.0})
    configs = [small[0], large[1], small[2]]
    torch.zeros(1, device=DEVICE)
    return list(run(configs, lambda number: card.holds(WHOLE if number != 1 else card.used + 64 * 2**20)))


def crowded() -> list[dict[str, Any]]:
    """Reports of three trainings together, on a card that has memory for one of them and half another."""
    shape = {"net.width": 16.0, "net.depth": 14, "train.batch_size": 64}
    (alone,) = run(trials_of(1, **shape))
    first, *others = trials_of(3, **shape)
    left()
    card.holds(int(1.5 * alone["reserved"]) + card.used - torch.cuda.memory_reserved())
    worker = TrialWorker(first | {"others": others})
    reports = [worker.step() for _ in range(4)]
    card.holds(WHOLE)
    return [*reports, {"told": [*told.lines]}]


def share() -> list[bool]:
    """Whether 30 MiB of images stay on the card: 64 MiB are for this process; 32 of them are taken; it may have all
    of the card again; but only 40 are free.
    """
    images = Split(np.zeros((10240, 32, 32, 3), np.uint8), np.zeros(10240, np.int64))

    def stays() -> bool:
        found = Resident.load(images, [0.5] * 3, [0.5] * 3, DEVICE)
        streamed = found.streamed
        del found
        left()
        return not streamed

    torch.cuda.memory.set_per_process_memory_fraction(64 * MIB / WHOLE, DEVICE)
    found = [stays()]
    taken = torch.zeros(32 * MIB, dtype=torch.uint8, device=DEVICE)
    found.append(stays())
    del taken
    torch.cuda.memory.set_per_process_memory_fraction(1.0, DEVICE)
    found.append(stays())
    card.holds(left() + 40 * MIB)
    return [*found, stays()]


def measured() -> Any:
    """What is measured before trials share the card, with at most two of them: a reason, or bytes and rates."""
    sizes = {"n_train": 1000, "n_validation": 0, "n_test": 0, "counts_validation": (0, 0), "counts_test": (0, 0)}
    data = DataInfo(name="x", classes=("a", "b"), height=32, width=32, channels=3, **sizes)
    found = packing.measure(spec({"depth": 20}, {}), data, 2)
    return found if isinstance(found, str) else asdict(found)


def compiled() -> dict[str, Any]:
    """A network that is compiled and then captured; of the kernels that it is made of, what they say of themselves."""
    folder = Path(tempfile.mkdtemp())
    found = trial({"depth": 5, "unit": "single"}, {}, compiler=training.Compiler(True, folder))
    sources = "".join(file.read_text() for file in (folder / "kernels").rglob("*.py"))
    own = sum(name.startswith("triton ") for name in card.names())
    return found | {"kernels": own, "deterministic": [*set(re.findall(r"'deterministic': (\w+)", sources))]}


PARTS: dict[str, Callable[[], Any]] = {
    part.__name__: part
    for part in (
        cases,
        faults,
        failing,
        longer,
        branches,
        parted,
        groups,
        nodes,
        worker,
        full,
        crowded,
        share,
        measured,
        compiled,
    )
}

if __name__ == "__main__":
    logging.getLogger("search").addHandler(told)
    json.dump({part: PARTS[part]() for part in sys.argv[1:]}, sys.stdout)

"""Time of a training step against well-known implementations: `python -m benchmarks.trial.step_time --cifar PATH`.

PATH: a checkout of github.com/akamaster/pytorch_resnet_cifar10, whose ResNet-20, -56 and -110 have the layers of ours;
ResNet-50 is compared with torchvision's. A step is forward, cross-entropy and backward, eager, float32. Ours and theirs
take turns in one process (A B, B A, ...), in both memory formats. Building ResNet-1202 is measured in fresh processes.
The machine must be otherwise idle. A table on stdout; `--out` writes it to benchmarks/results/DATE-step-time.md too. It
takes about five minutes on two cores.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.report import publish, table, there_and_back
from resnet import create_model

Make = Callable[[], nn.Module]
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Pair:
    """One network in two implementations."""

    name: str
    theirs: Make
    side: int  # of the images, pixels
    classes: int

    def ours(self) -> nn.Module:
        return create_model(self.name)


def pairs(cifar: ModuleType) -> list[Pair]:
    """The networks that are compared."""
    small = [Pair(name, getattr(cifar, name), 32, 10) for name in ("resnet20", "resnet56", "resnet110")]
    return [*small, Pair("resnet50", torchvision.models.resnet50, 224, 1000)]


def imported(checkout: Path) -> ModuleType:
    """The module resnet.py of a checkout, under a name that is not our package's."""
    source = checkout / "resnet.py"
    if not source.is_file():
        sys.exit(f"error: --cifar {checkout} has no resnet.py; clone github.com/akamaster/pytorch_resnet_cifar10 there")
    spec = spec_from_file_location("cifar_resnet", source)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_same_layers(pair: Pair) -> None:
    """Refuses a comparison of networks whose parameters differ in any shape, or whose FLOPs do."""
    found: list[tuple[list[tuple[int, ...]], int]] = []
    for make in (pair.ours, pair.theirs):
        with torch.device("meta"):
            net, images = make(), torch.empty(1, 3, pair.side, pair.side)
        with FlopCounterMode(display=False) as counter:
            net(images)
        found.append((sorted(tuple(p.shape) for p in net.parameters()), counter.get_total_flops()))
    if found[0] != found[1]:
        flops = [total for _, total in found]
        sys.exit(f"error: {pair.name} has other layers than ours: FLOPs of one image {flops[1]} against {flops[0]}")


def step_seconds(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Wall time of forward, loss and backward."""
    net.zero_grad(set_to_none=True)
    began = time.perf_counter()
    nn.functional.cross_entropy(net(images), labels).backward()
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - began


@dataclass(frozen=True)
class Times:
    """Seconds of each turn, ours and theirs side by side."""

    ours: list[float]
    theirs: list[float]

    def row(self) -> list[str]:
        """Medians in ms, the ratio of medians, and the quartiles of the turns' own ratios."""
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        turns = [b / a for a, b in zip(self.ours, self.theirs, strict=True)]
        low, _, high = statistics.quantiles(turns, n=4, method="inclusive")
        return [f"{1000 * ours:.1f}", f"{1000 * theirs:.1f}", f"{theirs / ours:.3f}", f"{low:.3f} to {high:.3f}"]


def compare(pair: Pair, memory_format: torch.memory_format, batch: int, turns: int, device: str) -> Times:
    """Steps in turns, A B then B A, after two of each that do not count."""
    images = torch.randn(batch, 3, pair.side, pair.side, device=device).contiguous(memory_format=memory_format)
    labels = torch.randint(pair.classes, (batch,), device=device)
    nets = [make().to(device).to(memory_format=memory_format) for make in (pair.ours, pair.theirs)]
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(-2, turns):
        for which in there_and_back((0, 1), turn):
            took = step_seconds(nets[which], images, labels)
            if turn >= 0:
                seconds[which].append(took)
    return Times(*seconds)


def peak_mib() -> float:
    """Most memory that this process has held since the last `forget_peak`, MiB.

    From Linux' /proc: `getrusage` would start at what the parent held, for its figure outlives exec.
    """
    status = Path("/proc/self/status").read_text()
    (kib,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kib) / 1024


def forget_peak() -> None:
    """Lets the peak start again from what the process holds now."""
    Path("/proc/self/clear_refs").write_text("5")


def building(checkout: Path | None) -> tuple[float, float, float]:
    """Seconds to build ResNet-1202 (theirs from a checkout), MiB of memory at its peak, MiB of its parameters."""
    if checkout:
        theirs = imported(checkout)
        first, make = theirs.resnet20, theirs.resnet1202
    else:
        first, make = partial(create_model, "resnet20"), partial(create_model, "resnet1202")
    first()  # once, for what only the first network of a process costs
    forget_peak()
    before, began = peak_mib(), time.perf_counter()
    net = make()
    took = time.perf_counter() - began
    return took, peak_mib() - before, sum(p.numel() * p.element_size() for p in net.parameters()) / 2**20


def building_rows(checkout: Path, turns: int) -> list[list[str]]:
    """ResNet-1202 of each implementation, each time in a fresh process: medians."""
    rows: list[list[str]] = []
    for whose, source in (("ours", None), ("theirs", checkout)):
        measured: list[tuple[float, float, float]] = []
        for _ in range(turns):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
                measured.append(fresh.submit(building, source).result())
        took, peak, params = (statistics.median(column) for column in zip(*measured, strict=True))
        rows.append([f"resnet1202, {whose}", f"{took:.2f}", f"{peak:.0f}", f"{params:.0f}"])
    return rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, required=True, help="checkout of akamaster/pytorch_resnet_cifar10")
    parser.add_argument("--networks", nargs="+", help="only these, e.g. resnet20 resnet50")
    parser.add_argument("--batch", type=int, default=64, help="CIFAR images a step (64); a quarter for resnet50")
    parser.add_argument("--turns", type=int, default=15, help="measured steps of each implementation (15)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch (default: its own)")
    parser.add_argument("--out", action="store_true", help="write benchmarks/results/DATE-step-time.md")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    every = pairs(imported(args.cifar))
    chosen = [pair for pair in every if pair.name in (args.networks or [p.name for p in every])]
    built = building_rows(args.cifar, min(args.turns, 5))
    rows: list[list[str]] = []
    for pair in chosen:
        check_same_layers(pair)
        batch = args.batch if pair.side == 32 else max(1, args.batch // 4)
        for form, memory_format in FORMATS.items():
            times = compare(pair, memory_format, batch, args.turns, device)
            rows.append([pair.name, f"{batch} x {pair.side}x{pair.side}", form, *times.row()])
    publish(
        "step-time",
        "Time of a training step",
        [
            f"On {device}, {args.threads} threads. Medians of n = {args.turns} steps each, in turns; a ratio of 1 or "
            "more: ours is at least as fast. Quartiles are of the ratio turn by turn.",
            table(["network", "batch", "format", "ours, ms", "theirs, ms", "theirs / ours", "quartiles"], rows),
            "Building, float32, each time in a fresh process:",
            table(["network", "seconds", "peak memory, MiB", "of it parameters, MiB"], built),
        ],
        args.out,
    )


if __name__ == "__main__":
    main()

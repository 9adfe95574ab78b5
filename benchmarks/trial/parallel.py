"""One network trained by two processes together, and by one: `python -m benchmarks.trial.parallel --out`.

ResNet-20 on random 32 x 32 images, batches of 128, on cores. Three ways in turns: one process with one
thread, one with two threads, and two processes of one thread each that share every batch, batch statistics and
gradients. Rates are those that a trial reports, of the second and third epoch. Two cores must be otherwise idle. It
takes about five minutes.
"""

import argparse
import multiprocessing
import tempfile
from pathlib import Path

import torch

from benchmarks import report
from benchmarks.report import publish, ratios, spread, table, there_and_back
from resnet import NetSpec
from search import training
from search.spec import TrainSpec, TrialSpec
from search.training import Group, noise, train

DEPTH, STEPS, EPOCHS, IMAGE = 20, 12, 3, (32, 32, 3)
WAYS = {"one process, one thread": (1, 1), "one process, two threads": (1, 2), "two processes": (2, 1)}
CPU = torch.device("cpu")


def train_here(rank: int, processes: int, threads: int, folder: Path) -> None:
    """Trains in this process; the first writes its rates, in images/s, to `folder`."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)  # all see the same noise
    training.device.keep_freed_memory()
    spec = TrialSpec(net=NetSpec(depth=DEPTH), train=TrainSpec(epochs=EPOCHS, lr=1e-6))
    images = noise(spec, IMAGE, CPU, STEPS)
    if processes == 1:
        metrics = [epoch.metrics for epoch in train(spec, images, None)]
    else:
        with Group.joined(folder / "meeting", rank, processes, CPU) as group:
            metrics = [epoch.metrics for epoch in train(spec, images, None, group=group)]
    if rank == 0:
        rates = [each["cost/images_per_s"] for each in metrics[1:]]
        (folder / "rate").write_text(str(len(rates) / sum(1 / rate for rate in rates)))


def rate(processes: int, threads: int) -> float:
    """Images/s of so many new processes together."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        running = [
            spawn.Process(target=train_here, args=(rank, processes, threads, Path(folder))) for rank in range(processes)
        ]
        for process in running:
            process.start()
        for process in running:
            process.join()
        return float((Path(folder) / "rate").read_text())


def arguments() -> argparse.Namespace:
    parser = report.parser(__doc__, "parallel", "not read here: the images are noise")
    parser.add_argument("--turns", type=int, default=8, help="of each (8)")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(args.turns):
        for way in there_and_back(WAYS, turn):
            found[way].append(rate(*WAYS[way]))
    first, *_ = found.values()
    rows = [[way, spread(rates), spread(ratios(rates, first), 2)] for way, rates in found.items()]
    note = (
        f"ResNet-{DEPTH}; n = {args.turns} turns of each way; medians with quartiles, of the ratio to the first way, "
        "turn by turn."
    )
    publish(
        "parallel",
        "One network on two cores",
        [note, table(["", "images/s", "ratio"], rows)],
        args.out,
    )


if __name__ == "__main__":
    main()

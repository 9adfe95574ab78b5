"""How many trials the whole service gets through: `python -m benchmarks.search.controller --out`.

A study runs as with the command, through Ray, Optuna, the outbox and a local MLflow store; only the workers do not
train: they report made-up errors at once. The study's own record says when each trial began. The machine must be
otherwise idle.
"""

import argparse
import contextlib
import io
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.report import publish, table
from benchmarks.search.cost import EPOCHS, FIRST_RUNG, SPACE, error
from search.run import main as command
from search.spec import Sampler, TrialSpec


def without_training() -> None:
    """Makes workers of this process' studies report epochs that take no time."""
    os.environ["RAY_AUTH_MODE"] = "token"  # as the command sets it, before Ray is imported
    import search.execution.worker

    class Untrained(search.execution.worker.TrialWorker):
        def _run(self) -> Iterator[dict[str, Any]]:
            flat = TrialSpec.model_validate(self.config["spec"]).flat()
            for epoch in range(self.config["epochs_known"] + 1, EPOCHS + 1):
                last = epoch == EPOCHS
                metrics = {"val/error": error(flat, epoch), "cost/seconds": 0.001, "cost/images_per_s": 1000.0}
                told = {"epoch": epoch, "metrics": metrics, "diverged": False, "last": last, "done": last}
                yield told | {"time_ms": int(time.time() * 1000)}

    search.execution.worker.TrialWorker = Untrained


@dataclass(frozen=True)
class Run:
    """One study."""

    began: list[float]  # when each trial began, Unix seconds, upwards
    seconds: float  # of the whole command
    unsent: str  # how many events MLflow had not taken when it ended, a minute after the last trial at most


def run(sampler: Sampler, trials: int) -> Run:
    """Runs a study of so many trials in a folder of its own; ends this process with what it printed when it fails."""
    study = {
        "name": "controller",
        "data": {"name": "digits", "limit": 200},
        "train": {"epochs": EPOCHS},
        "space": dict(SPACE),
        "search": {"trials": trials, "sampler": sampler.value, "first_rung": FIRST_RUNG, "reduction": 3},
    }
    with tempfile.TemporaryDirectory() as temporary:
        file, results = Path(temporary) / "study.yaml", Path(temporary) / "results"
        file.write_text(yaml.safe_dump(study))
        printed = io.StringIO()
        began = time.perf_counter()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            status = command([str(file), "--output", str(results)])
        seconds = time.perf_counter() - began
        if status:
            sys.exit(f"error: the study ended with {status}:\n{printed.getvalue()}")
        lines = (results / "controller" / "outbox.jsonl").read_text().splitlines()
    began_at = [event["time_ms"] / 1000 for event in map(json.loads, lines) if event["kind"] == "trial_started"]
    unsent = re.search(r"has not taken (\d+) events", printed.getvalue())
    return Run(sorted(began_at), seconds, unsent[1] if unsent else "0")


def rows(samplers: Sequence[Sampler], sizes: Sequence[int], around: int) -> Iterator[list[str]]:
    """A row of the table for each sampler, of one study as long as the largest of `sizes`."""
    for sampler in samplers:
        done = run(sampler, sizes[-1])
        rates = [(around - 1) / (done.began[size - 1] - done.began[size - around]) for size in sizes]
        rates.append((sizes[-1] - 1) / (done.began[-1] - done.began[0]))
        yield [sampler.value, *(f"{rate:.1f}" for rate in rates), f"{done.seconds:.0f}", done.unsent]


def main() -> None:
    """Prints the page, and writes it with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 2000], help="trials (100 1000 2000)")
    parser.add_argument("--around", type=int, default=50, help="trials up to each size that are measured (50)")
    parser.add_argument(
        "--samplers", nargs="+", type=Sampler, default=[Sampler.RANDOM, Sampler.TPE], help="random, tpe"
    )
    parser.add_argument("--out", action="store_true", help="write benchmarks/results/DATE-controller.md")
    args = parser.parse_args()
    sizes = sorted(args.sizes)
    if sizes[0] < args.around:
        parser.error(f"--around {args.around} is more than the least of --sizes, {sizes[0]}")
    without_training()
    head = ["sampler", *(f"trials/s at {size:,}" for size in sizes), "on average", "whole command, s", "events unsent"]
    parts = [
        f"Scheduler asha, {EPOCHS} epochs, first rung {FIRST_RUNG}. One study a row (n = 1). Trials begun in a second, "
        f"among the last {args.around} before so many, and over all; the command with its start, report and MLflow.",
        table(head, list(rows(args.samplers, sizes, args.around))),
    ]
    publish("controller", "Trials that the service gets through", parts, args.out)


if __name__ == "__main__":
    main()

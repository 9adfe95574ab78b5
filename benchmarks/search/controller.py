"""How many trials the whole service gets through: `python -m benchmarks.search.controller --out`.

A study runs as with the command, through Ray, Optuna's journal and a local MLflow store; only the workers do not train:
they report made-up errors at once. Beside it, in the same run and on the same cores, a bare loop of Ray Tune does the
same trials: random proposals, Ray's ASHA, reused workers, no records and no MLflow. The ratio of the two says what the
service costs, also on a machine that does other things. It takes about seven minutes on two cores. With `--storage` the
studies are run once more, with their trials in that database instead of the journal.
"""

import argparse
import contextlib
import cProfile
import io
import os
import pstats
import re
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import yaml

from benchmarks.report import publish, table
from benchmarks.search.cost import EPOCHS, FIRST_RUNG, SPACE, error
from search.execution import connected
from search.records import open_storage
from search.run import main as command
from search.spec import ResourceSpec, Sampler, SearchSpec, TrialSpec

BARE = "bare loop of Tune"
SHOWN = 25  # functions of the profile


def without_training() -> None:
    """Makes workers of this process' studies report epochs that take no time."""
    os.environ["RAY_AUTH_MODE"] = "token"  # as the command sets it, before Ray is imported
    import search.execution.worker

    class Untrained(search.execution.worker.TrialWorker):
        def _run(self) -> Generator[list[dict[str, Any]]]:
            flat = TrialSpec.model_validate(self.config["spec"]).flat()
            for epoch in range(self.config["epochs_known"] + 1, EPOCHS + 1):
                last = epoch == EPOCHS
                metrics = {"val/error": error(flat, epoch), "cost/seconds": 0.001, "cost/images_per_s": 1000.0}
                made = {"epoch": epoch, "metrics": metrics, "diverged": False, "last": last}
                yield [made | {"number": self.config["number"], "time_ms": int(time.time() * 1000)}]

    search.execution.worker.TrialWorker = Untrained


@dataclass(frozen=True)
class Run:
    """One study, or one bare loop."""

    began: list[float]  # when each trial began, Unix seconds, upwards
    seconds: float  # of the whole command
    unsent: str = ""  # what MLflow had not taken when it ended, a minute after the last trial at most


def run(sampler: Sampler, trials: int, url: str | None = None) -> Run:
    """Runs a study of so many trials in a folder of its own; ends this process with what it printed when it fails."""
    study = {
        "name": f"controller-{time.time_ns()}",  # a database may hold others
        "data": {"name": "digits", "limit": 256},
        "train": {"epochs": EPOCHS},
        "space": dict(SPACE),
        "search": {"trials": trials, "sampler": sampler.value, "first_rung": FIRST_RUNG, "reduction": 3}
        | ({"storage": url} if url else {}),
        "finals": {"top": 0},
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
        storage = open_storage(results / study["name"] / "optuna.journal", url)
        names = [each.study_name for each in optuna.get_all_study_summaries(storage)]
        (name,) = (name for name in names if study["name"] in name)
        found = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    unsent = re.search(r"has not taken all of (\d+)", printed.getvalue())
    began_at = sorted(t.datetime_start.timestamp() for t in found if t.datetime_start)
    return Run(began_at, seconds, unsent[1] if unsent else "0")


def bare(trials: int) -> Run:
    """As many trials of the same space and epochs in a loop of Tune that records nothing."""
    from ray import tune
    from ray.tune.schedulers import AsyncHyperBandScheduler

    class Untrained(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self._epoch = 0

        def step(self) -> dict[str, Any]:
            self._epoch += 1
            return {"error": error(self.config, self._epoch), "done": self._epoch == EPOCHS}

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._epoch = 0
            return True

    began_at: list[float] = []

    class Begun(tune.Callback):
        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            began_at.append(time.time())

    def drawn(entry: Any) -> Any:
        if isinstance(entry, list):
            return tune.choice(entry)
        if "step" in entry:
            return tune.qrandint(entry["low"], entry["high"], entry["step"])
        return (tune.loguniform if entry.get("log") else tune.uniform)(entry["low"], entry["high"])

    began = time.perf_counter()
    with connected(ResourceSpec(), SearchSpec()) as (share, _, _), tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(Untrained, {"CPU": share.cpus}),
            param_space={path: drawn(entry) for path, entry in SPACE.items()},
            tune_config=tune.TuneConfig(
                metric="error",
                mode="min",
                num_samples=trials,
                reuse_actors=True,
                max_concurrent_trials=share.concurrent,
                scheduler=AsyncHyperBandScheduler(max_t=EPOCHS, grace_period=FIRST_RUNG, reduction_factor=3),
            ),
            run_config=tune.RunConfig(
                name="bare",
                storage_path=folder,
                verbose=0,
                callbacks=[Begun()],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tuner.fit()
    return Run(sorted(began_at), time.perf_counter() - began)


def rates(done: Run, sizes: Sequence[int], around: int) -> list[float]:
    """Trials/s among the last `around` before each of the `sizes`, and over all."""
    of_each = [(around - 1) / (done.began[size - 1] - done.began[size - around]) for size in sizes]
    return [*of_each, (len(done.began) - 1) / (done.began[-1] - done.began[0])]


def profiled(sampler: Sampler, trials: int) -> str:
    """Where the main thread's time goes in a study of so many trials: the functions with most of it."""
    profile, told = cProfile.Profile(), io.StringIO()
    profile.runcall(partial(run, sampler, trials))
    pstats.Stats(profile, stream=told).sort_stats("tottime").print_stats(SHOWN)
    return told.getvalue()


def main() -> None:
    """Prints the page, and writes it with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 2000], help="trials (100 1000 2000)")
    parser.add_argument("--around", type=int, default=50, help="trials up to each size that are measured (50)")
    parser.add_argument(
        "--samplers", nargs="+", type=Sampler, default=[Sampler.RANDOM, Sampler.FREEZE_THAW], help="random, freeze-thaw"
    )
    parser.add_argument("--storage", help="a database, postgresql://...")
    parser.add_argument("--profile", action="store_true", help="print where the time goes instead")
    parser.add_argument("--out", action="store_true", help="write benchmarks/results/DATE-controller.md")
    args = parser.parse_args()
    sizes = sorted(args.sizes)
    if sizes[0] < args.around:
        parser.error(f"--around {args.around} is more than the least of --sizes, {sizes[0]}")
    without_training()
    if args.profile:
        print(profiled(args.samplers[0], sizes[-1]))
        return
    places = {"": None} | ({" in the database": args.storage} if args.storage else {})
    measured = {
        sampler.value + words: run(sampler, sizes[-1], url)
        for sampler in args.samplers
        for words, url in places.items()
    } | {BARE: bare(sizes[-1])}
    least = rates(measured[BARE], sizes, args.around)
    rows: list[list[str]] = []
    for name, done in measured.items():
        shown = zip(rates(done, sizes, args.around), least, strict=True)
        cells = [f"{rate:.1f}" if name == BARE else f"{rate:.1f} ({rate / of:.2f})" for rate, of in shown]
        rows.append([name, *cells, f"{done.seconds:.0f}", done.unsent])
    head = ["", *(f"trials/s at {size:,}" for size in sizes), "on average", "whole command, s", "unsent"]
    parts = [
        f"Scheduler asha, {EPOCHS} epochs, first rung {FIRST_RUNG}. One study a row (n = 1). Trials begun in a second, "
        f"among the last {args.around} before so many, and over all; in parentheses as a share of the bare loop's. The "
        f"command is with its start, report and MLflow. Load of the machine at the end {os.getloadavg()[1]:.1f}.",
        table(head, rows),
    ]
    publish("controller", "Trials that the service gets through", parts, args.out)


if __name__ == "__main__":
    main()

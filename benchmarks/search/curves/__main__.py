"""Makes the table of learning curves: `python -m benchmarks.search.curves`.

Each task is a study of this project, random and without early stopping, so that a kill costs the epochs in progress
only; a task that the table has is left as it is. Every task draws the same configurations. It takes some hours on two
cores; times in the table are of a machine that may have been busy.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.search.curves import BATCH, Curves, Table
from benchmarks.search.curves.tasks import CONFIGURATIONS, SPACE, TASKS, Task
from search import Study
from search.data import check
from search.records import Trials
from search.spec import DataInfo


def study(name: str, task: Task, archive: Path, validation: float) -> dict[str, Any]:
    """The study that trains the configurations on one task."""
    return {
        "name": f"curves-{name}",
        "data": {"name": f"npz:{archive}", "validation": validation},
        "net": {"width": 0.5},
        "train": {"epochs": task.epochs, "batch_size": BATCH, "crop_padding": 1, "flip": task.flip},
        "space": dict(SPACE),
        "search": {"trials": CONFIGURATIONS, "sampler": "random", "scheduler": "none"},
        "finals": {"top": 0},
    }


def searched(params: Mapping[str, Any]) -> dict[str, Any]:
    """Of a trial's values those that were drawn."""
    return {path: params[path] for path in SPACE}


def curves(task: Task, trials: Trials, info: DataInfo) -> Curves:
    """What the table says of a task."""
    errors = tuple(tuple(round(trial.finite_curve[e], 2) for e in sorted(trial.finite_curve)) for trial in trials)
    seconds = tuple(round(trial.seconds or 0.0, 1) for trial in trials)
    return Curves(task.epochs, info.n_train, info.n_validation, round(info.guess_validation, 2), errors, seconds)


def main() -> None:
    """Trains what the table lacks, task after task, and writes it after each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search.curves", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("results"), help="where the studies are kept")
    parser.add_argument("--data-dir", help="folder of the raw files of CIFAR-10 and Fashion-MNIST")
    renamed = "the name of a data set, such as cifar10=npz:PATH"
    parser.add_argument("--from", dest="sources", action="append", default=[], metavar="NAME=DATA", help=renamed)
    arguments = parser.parse_args()
    names = dict(one.split("=", 1) for one in arguments.sources)
    table = Table.read()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, task in TASKS.items():
        if name in table.tasks:
            continue
        archive = (arguments.output / f"curves-{name}.npz").resolve()
        share = task.write(archive, names.get(task.source, task.source), arguments.data_dir)
        asked = Study.create(study(name, task, archive, share), output=str(arguments.output))
        if asked.run().interrupted:
            return
        info = check(asked.spec.data)
        drawn = tuple(searched(trial.params) for trial in asked.trials)
        assert table.configurations in ((), drawn), "every task draws the same configurations"
        found = curves(task, asked.trials, info)
        table = Table(drawn, {**table.tasks, name: found})
        table.write()
        table.write_known()


if __name__ == "__main__":
    main()

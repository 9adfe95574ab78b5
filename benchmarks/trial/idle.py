"""How long a trial waits between two epochs: `python -m benchmarks.trial.idle --out`.

A study of one trial runs as with the command, through Ray, Tune, the journal and MLflow: with its checkpoints in a
folder, and in an object store (moto's S3 server on this machine, in a process of its own). In its worker the time from
the end of an epoch's last step to the beginning of the next epoch's first is measured, without validation between them:
metrics, checkpoint, report and the draws of the next epoch. On cores alone, where a step is done when it returns. It
takes about four minutes.
"""

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.report import publish, quartiles, table
from search.run import main as command
from tests.support.mlflow_server import Server
from tests.support.object_store import object_store

NETS = {"ResNet-20": 20, "ResNet-110": 110}
FOUND = "IDLE_FOUND"  # environment variable: the file of what the worker measures


def timed_worker() -> None:
    """Makes workers of this process' studies write down how long they wait, and what they write."""
    os.environ["RAY_AUTH_MODE"] = "token"  # as the command sets it, before Ray is imported
    import search.execution.worker

    class Timed(search.execution.worker.TrialWorker):
        def setup(self, config: dict[str, Any]) -> None:
            from search.training import checkpoint
            from search.training.loop import Answers
            from search.training.step import Step

            call, answer = Step.__call__, Answers.__call__
            done, ended, validated = 0, 0.0, 0.0  # steps of this epoch; when its last one ended; seconds of validation

            def write(line: dict[str, float]) -> None:
                with Path(os.environ[FOUND]).open("a") as file:
                    file.write(json.dumps(line) + "\n")

            def timed(step: Step) -> None:
                nonlocal done, ended, validated
                if done == 0 and ended:
                    write({"ms": 1000 * (time.perf_counter() - ended - validated)})
                call(step)
                done = (done + 1) % step.steps
                ended, validated = time.perf_counter(), 0.0

            def measured(answers: Answers) -> Any:
                nonlocal validated
                began = time.perf_counter()
                found = answer(answers)
                validated = time.perf_counter() - began
                return found

            Step.__call__, Answers.__call__ = timed, measured
            for place in (checkpoint.LocalFiles, checkpoint.RemoteFiles):

                def put(self: Any, epoch: int, contents: Any, put: Any = place.put) -> str:
                    write({"bytes": sum(map(len, contents.values()))})
                    return put(self, epoch, contents)

                place.put = put
            super().setup(config)

    search.execution.worker.TrialWorker = Timed


def run(depth: int, epochs: int, output: str, *flags: str) -> list[dict[str, float]]:
    """What the worker of a study of one trial writes down; ends this process with what was printed when it fails."""
    study = {
        "name": f"idle-{depth}-{time.time_ns()}",
        "data": {"name": "digits", "limit": 500},
        "net": {"depth": depth},
        "train": {"epochs": epochs, "batch_size": 128, "flip": False},
        "space": {"train.lr": [0.05]},
        "search": {"trials": 1, "scheduler": "none"},
        "finals": {"top": 0},
    }
    with tempfile.TemporaryDirectory() as folder:
        file, found = Path(folder) / "study.yaml", Path(folder) / "found"
        file.write_text(yaml.safe_dump(study))
        os.environ[FOUND] = str(found)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            status = command([str(file), "--output", output, *flags])
        if status:
            sys.exit(f"error: the study ended with {status}:\n{printed.getvalue()}")
        return [json.loads(line) for line in found.read_text().splitlines()]


def row(name: str, found: list[dict[str, float]]) -> list[str]:
    """Of one study."""
    waited = [line["ms"] for line in found if "ms" in line]
    written = [line["bytes"] for line in found if "bytes" in line]
    low, middle, high = quartiles(waited)
    mean = sum(waited) / len(waited)
    shown = f"{middle:.1f} ({low:.1f} to {high:.1f})"
    return [name, str(len(waited)), shown, f"{mean:.1f}", str(len(written)), f"{sum(written) / 1e6:.1f}"]


def main() -> None:
    """Prints the page, and writes it with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=100, help="of a trial of ResNet-20; of ResNet-110 a third (100)")
    parser.add_argument("--out", action="store_true", help="write benchmarks/results/DATE-idle.md")
    args = parser.parse_args()
    timed_worker()
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder, object_store(Path(folder)) as url:
        server = Server(Path(folder))
        server.start()
        try:
            for name, depth in NETS.items():
                epochs = args.epochs if depth == min(NETS.values()) else args.epochs // 3
                rows.append(row(f"{name}, folder", run(depth, epochs, f"{folder}/results")))
                rows.append(row(f"{name}, object store", run(depth, epochs, url, "--tracking-uri", server.url)))
        finally:
            server.kill()
    head = ["", "pauses", "ms, median (quartiles)", "mean", "checkpoints", "MB written"]
    parts = [
        "Digits, batch 128, one trial on one core. A pause is from the end of an epoch's last step to the beginning of "
        "the next epoch's first, less validation. One study a row. "
        f"Load of the machine at the end {os.getloadavg()[1]:.1f}.",
        table(head, rows),
    ]
    publish("idle", "How long a trial waits between two epochs", parts, args.out)


if __name__ == "__main__":
    main()

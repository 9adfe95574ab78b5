"""What the service costs around the training: `python -m benchmarks.service_cost [flags of search.run]`.

Runs a fresh study in a process of its own and compares its wall time with the training seconds that its trials report.
The machine must be otherwise idle. One line of JSON on stdout holds every figure.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def events(study: Path) -> list[dict[str, Any]]:
    """The study's tracking events, each with `time_ms` (Unix time)."""
    return [json.loads(line) for line in (study / "outbox.jsonl").read_text().splitlines()]


def measure(flags: list[str]) -> dict[str, Any]:
    """Seconds of one fresh study, all counted from the command's start."""
    concurrent = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as output:
        began = time.time()
        command = [sys.executable, "-m", "search.run", "--output", output, "--max-concurrent", str(concurrent), *flags]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall = time.time() - began
        (study,) = (path.parent for path in Path(output).glob("*/report.json"))
        report = json.loads((study / "report.json").read_text())
        happened = events(study)
    epochs = [e["time_ms"] / 1000 for e in happened if e["kind"] == "epoch"]
    ended = [e["time_ms"] / 1000 for e in happened if e["kind"] == "trial_ended"]
    started = min(e["time_ms"] / 1000 for e in happened if e["kind"] == "trial_started")
    training = sum(trial["seconds"] for trial in report["trials"])
    searching = max(ended) - started
    return {
        "trials": len(report["trials"]),
        "epochs": len(epochs),
        "concurrent": concurrent,
        "first_epoch_s": round(min(epochs) - began, 2),
        "wall_s": round(wall, 2),
        "search_s": round(searching, 2),
        "training_s": round(training, 2),
        "wall_over_training": round(wall / (training / concurrent), 3),
        "search_over_training": round(searching / (training / concurrent), 3),
        "best_val_error": report["best"]["val_error"],
        "hardware": report["hardware"],
        "versions": report["versions"],
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1:])))

"""How long a command keeps its user waiting: `python -m benchmarks.service.start_up BEFORE AFTER --out`.

Two source trees in turns, each turn the other way round: processor seconds of `--help`, `--list` and a bad flag, and
the seconds from `python -m search.run digits` to the end of the first epoch of a trial, as the study's journal has it,
with the processor seconds that all processes of the study took until then. Every study has a folder and a cache of its
own, so that data are prepared and MLflow's database is made. The seconds of the clock need an otherwise idle machine.
It takes about six minutes.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import publish, ratios, spread, table, there_and_back
from benchmarks.service.cpu_seconds import Usage, processes
from benchmarks.service.overhead import SURROUNDINGS

AT_ONCE = {"`--help`": ("--help",), "`--list`": ("--list",), "`--trails 3`, refused": ("--trails", "3")}
STUDY = ("digits", "--trials", "2", "--epochs", "2", "--set", "finals.top=0")  # its first trial is that of the whole
EVERY = 0.1  # seconds between two looks at the journal
LONGEST = 600.0  # seconds until the first epoch


def answer(tree: Path, flags: Sequence[str]) -> float:
    """Processor seconds, user and system, of a command that trains nothing."""
    before = _children()
    subprocess.run(_command(flags), cwd=tree, env=_environment(tree), capture_output=True)
    return _children() - before


def first_epoch(tree: Path) -> tuple[float, float]:
    """Seconds until the journal of a new study has an epoch, and processor seconds of its processes until then.

    Raises:
        RuntimeError: the study ends, or `LONGEST` is over, before that.
    """
    with tempfile.TemporaryDirectory() as place:
        journal = Path(place, "out", "digits", "optuna.journal")
        environment = {**_environment(tree), "XDG_CACHE_HOME": f"{place}/cache"}
        command = _command([*STUDY, "--output", f"{place}/out"])
        began = time.monotonic()
        with subprocess.Popen(command, cwd=tree, env=environment, stdout=subprocess.DEVNULL) as study:
            usage = Usage(study.pid)
            while not (journal.is_file() and '"intermediate_value"' in journal.read_text()):
                usage.see(processes())
                if study.poll() is not None or time.monotonic() - began > LONGEST:
                    study.kill()
                    raise RuntimeError(f"{tree}: no epoch in {time.monotonic() - began:.0f} s")
                time.sleep(EVERY)
            seconds = time.monotonic() - began
            usage.see(processes())
            study.wait()
        return seconds, sum(usage.by_role().values())


def measured(tree: Path) -> dict[str, float]:
    """All that is measured of a source tree, once: name -> seconds."""
    found = {f"{name}: processor": answer(tree, flags) for name, flags in AT_ONCE.items()}
    clock, processor = first_epoch(tree)
    return found | {"first epoch of `digits`: clock": clock, "first epoch of `digits`: processor": processor}


def _command(flags: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "search.run", *flags]


def _environment(tree: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in SURROUNDINGS}
    return {**kept, "PYTHONPATH": str(tree.resolve())}


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="a source tree")
    parser.add_argument("after", type=Path, help="another")
    parser.add_argument("--turns", type=int, default=5, help="of both trees (5)")
    parser.add_argument("--out", action="store_true", help="write benchmarks/results/DATE-start-up.md")
    given = parser.parse_args()
    trees = (given.before, given.after)
    found: dict[Path, list[dict[str, float]]] = {tree: [] for tree in trees}
    for turn in range(given.turns):
        for tree in there_and_back(trees, turn):
            found[tree].append(measured(tree))
    rows: list[list[str]] = []
    for name in found[given.after][0]:
        before, after = ([turn[name] for turn in found[tree]] for tree in trees)
        rows.append([name, spread(before, 2), spread(after, 2), spread(ratios(after, before), 2)])
    head = ["seconds", "before", "after", "after / before"]
    text = f"Median (quartiles) of {given.turns} turns; load of the machine at the end {os.getloadavg()[1]:.1f}."
    publish("start-up", "Start-up", [text, table(head, rows)], given.out)


if __name__ == "__main__":
    main()

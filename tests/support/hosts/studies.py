"""A study on simulated hosts, seen from outside: where its trials run, and what its folder says in the end."""

import json
import os
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.support.hosts.host import Host
from tests.support.journal import Reported, reported, trials

TRIALS = "pgrep -f '^ray::(ResourceTrainable|TrialWorker)'"


def one_each() -> float:
    """Cores of a trial of which a host, which has those of this machine, can run just one."""
    cores = os.cpu_count() or 1
    return cores if cores == 1 else cores / 2 + 0.5


def busy(hosts: list[Host]) -> list[Host]:
    """Hosts on which a trial runs."""
    return [host for host in hosts if host.on and host.run(TRIALS, check=False).returncode == 0]


@dataclass(frozen=True)
class Watched:
    """A study by its folder and by what its command printed."""

    folder: Path
    log: Path

    def epochs(self) -> list[Reported]:
        """Every epoch on record, by the time of its end."""
        return sorted(reported(self.folder), key=lambda one: one.time_ms)

    def lost(self) -> list[int]:
        """Trials that were told to go on elsewhere, in order."""
        lines = self.log.read_text().splitlines()
        return [int(line.split()[1].rstrip(":")) for line in lines if line.startswith("trial ") and "goes on" in line]

    def epochs_of(self, number: int) -> int:
        """How many epochs of the trial are on record."""
        return sum(one.number == number for one in self.epochs())

    def first_and_last_epoch(self) -> tuple[float, float]:
        """When they ended, in seconds since 1970."""
        epochs = self.epochs()
        return epochs[0].time_ms / 1000, epochs[-1].time_ms / 1000

    def ended(self) -> float:
        """When the last trial was said to be over, in seconds since 1970."""
        return max(trial.datetime_complete.timestamp() for trial in trials(self.folder) if trial.datetime_complete)

    def seconds_of_epochs(self) -> list[tuple[int, float]]:
        """Trial and duration of each epoch on record; the first of a trial begins when the trial is proposed."""
        ends = {one.number: [one.datetime_start.timestamp()] for one in trials(self.folder) if one.datetime_start}
        for one in self.epochs():
            ends[one.number].append(one.time_ms / 1000)
        return [(number, after - before) for number, times in ends.items() for before, after in pairwise(times)]

    def assert_whole(self, count: int, epochs: int) -> None:
        """Every trial is complete, and each of its epochs was told once."""
        report = json.loads((self.folder / "report.json").read_text())
        assert report["counts"]["complete"] == count, report["counts"]
        told = Counter((one.number, one.epoch) for one in self.epochs())
        assert told == Counter({(n, e): 1 for n in range(count) for e in range(1, epochs + 1)})
        for trial in report["trials"]:
            assert [epoch for epoch, _ in trial["curve"]] == list(range(1, epochs + 1)), trial["number"]

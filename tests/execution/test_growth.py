"""What a trial costs the journal, in reads and in writes to the disk, does not grow with the trials before it."""

import itertools
import os
import sys
from pathlib import Path

import pytest

from search.spec import Sampler, SearchSpec
from tests.support.simulated import Process, Setting

PART = 100  # trials
READ = Path("/proc/self/io")


def bytes_read() -> int:
    """By this process so far, from whatever file; `rchar` of proc(5)."""
    return int(READ.read_text().split()[1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts as Linux does")
def test_a_trial_reads_and_writes_as_much_as_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, sync = [0], os.fsync

    def counted(file: int) -> None:
        synced[0] += 1
        sync(file)

    monkeypatch.setattr(os, "fsync", counted)
    search = SearchSpec(sampler=Sampler.RANDOM, trials=4 * PART, first_rung=1, reduction=3)
    section = {"train.lr": {"low": 0.01, "high": 0.1}, "train.batch_size": [32]}
    process = Process(Setting(search, 9, section, fate=lambda flat, epoch: 90 - float(flat["train.lr"])), tmp_path, 4)
    ledger = process.recorder.ledger
    read, writes, epochs = [bytes_read()], [synced[0]], [0]
    for part in range(1, 5):
        while len(ledger.records) < part * PART and process.step():
            pass
        read.append(bytes_read())
        writes.append(synced[0])
        epochs.append(sum(r.epochs for r in ledger.records))
    of_part = [after - before for before, after in itertools.pairwise(read)]
    assert of_part[-1] < 2 * of_part[0], "bytes read by a hundred trials"
    assert of_part[-1] < 2 * (tmp_path / "optuna.journal").stat().st_size, "no line is read again and again"
    # A new trial is one write; so is a result, with all that follows from it.
    assert writes[-1] - writes[0] <= len(ledger.records) + epochs[-1] + 5
    assert len({record.params["train.lr"] for record in ledger.records}) == 4 * PART, "none is lost"

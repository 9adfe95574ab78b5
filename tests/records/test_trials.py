"""What is asked of the trials of a study as a whole, and standings that are kept as they arrive."""

import random
from dataclasses import replace

import pytest

from search.records import Standings, TrialRecord, Trials, TrialState
from tests.support import sample_study as sample


def test_a_frame_has_a_row_a_trial_and_a_column_a_parameter() -> None:
    frame = sample.trials().to_frame()
    assert len(frame) == 24
    assert list(frame.columns) == [
        *("state", "val_error", "epochs", "params_count", "macs", "seconds", "images_per_s", "reason"),
        *("net.depth", "net.unit", "net.version", "net.shortcut", "train.lr", "train.weight_decay", "net.gate_bias"),
    ]
    complete = frame[frame["state"] == "complete"]
    best = complete.sort_values("val_error").iloc[0]
    assert (best.name, best["net.depth"], best["net.version"]) == (10, 20, "v2")
    assert frame["net.gate_bias"].isna().sum() == sum("net.gate_bias" not in sample.params(n) for n in range(24))


def test_nothing_follows_from_no_trials() -> None:
    none = Trials()
    assert none.best is None
    assert (none.ranked(), none.finished, none.at(1)) == ((), 0, [])
    assert none.to_frame().empty
    assert none.counts() == dict.fromkeys((state.value for state in TrialState if state != "running"), 0)


ENDS = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.DIVERGED, TrialState.FAILED]


def worked_out(records: list[TrialRecord], epoch: int) -> list[tuple[float, int]]:
    """Slowly: of trials that reached the epoch, and of those that diverged before it."""
    reached = [(record.curve[epoch], record.number) for record in records if epoch in record.curve]
    diverged = [record for record in records if record.state is TrialState.DIVERGED and record.epochs < epoch]
    return sorted([*reached, *((100.0, record.number) for record in diverged)])


@pytest.mark.parametrize("seed", range(5))
def test_standings_are_as_if_worked_out_from_all(seed: int) -> None:
    draw = random.Random(seed)
    kept, now = Standings(), {}
    for _ in range(200):
        if draw.random() < 0.2 or not now:
            now[len(now)] = TrialRecord(len(now), TrialState.RUNNING, {}, 0)
            kept.put(now[len(now) - 1])
        number = draw.choice(sorted(now))
        record = now[number]
        if record.running and draw.random() < 0.2:
            record = replace(record, state=draw.choice(ENDS))
        elif record.running:  # few values, so that many are equal
            epochs = record.epochs + 1
            error = TrialRecord.WORST if draw.random() < 0.1 else float(draw.randrange(5))
            record = replace(record, epochs=epochs, curve={**record.curve, epochs: error})
        now[number] = record
        kept.put(record)
        kept.put(record)  # twice is once
    records = list(now.values())
    assert list(kept) == records
    assert len(kept) == len(records)
    for epoch in range(1, 12):
        assert list(kept.at(epoch)) == worked_out(records, epoch)

"""Standings that are kept as trials arrive equal those that are worked out from the whole."""

import random
from dataclasses import replace

import pytest

from search.records import Standings, TrialRecord, TrialState

ENDS = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.DIVERGED, TrialState.FAILED]


def worked_out(records: list[TrialRecord], epoch: int) -> list[tuple[float, int]]:
    """Slowly, from `TrialRecord.error_at`."""
    known = [(record.error_at(epoch), record.number) for record in records]
    return sorted((error, number) for error, number in known if error is not None)


@pytest.mark.parametrize("seed", range(20))
def test_as_if_worked_out_from_all(seed: int) -> None:
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
    for view, counted in (
        (kept, records),
        (kept.only(lambda n: n % 3 == 1), [r for r in records if r.number % 3 == 1]),
    ):
        assert list(view) == counted
        assert len(view) == len(counted)
        for epoch in range(1, 12):
            assert list(view.at(epoch)) == worked_out(counted, epoch)
    assert any(kept.at(epoch) for epoch in range(1, 12))


def test_averages_go_as_far_as_every_epoch_is_known() -> None:
    record = TrialRecord(0, TrialState.RUNNING, {}, 5, {1: 4.0, 2: 2.0, 3: 9.0, 5: 1.0})
    assert record.averages == {1: 4.0, 2: 3.0, 3: 5.0}

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
    for epoch in range(1, 12):
        assert list(kept.at(epoch)) == worked_out(records, epoch)
    assert any(kept.at(epoch) for epoch in range(1, 12))

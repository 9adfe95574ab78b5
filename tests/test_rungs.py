"""Successive halving against decisions worked out by hand."""

import pytest

from search.records import TrialRecord, TrialState
from search.rungs import Halving, NoHalving


def record(number: int, *errors: float) -> TrialRecord:
    """A running trial with these validation errors after epoch 1, 2, ..."""
    return TrialRecord(number, TrialState.RUNNING, {}, len(errors), dict(enumerate(errors, 1)))


@pytest.mark.parametrize(
    ("first", "reduction", "epochs", "rungs"),
    [
        (1, 3, 27, (1, 3, 9)),
        (1, 4, 256, (1, 4, 16, 64)),  # eta 4, R 256 as in arXiv:1810.05934, section 4
        (3, 2, 12, (3, 6)),
        (3, 2, 13, (3, 6, 12)),
        (3, 3, 3, ()),
        (5, 2, 2, ()),
    ],
)
def test_rungs(first: int, reduction: int, epochs: int, rungs: tuple[int, ...]) -> None:
    assert Halving(first, reduction, epochs).rungs == rungs


def test_one_rung_in_the_order_of_arrival() -> None:
    """One in three goes on, of those that have arrived so far."""
    halving, seen, went_on = Halving(1, 3, 9), [], []
    for number, error in enumerate([50.0, 60.0, 40.0, 45.0, 30.0, 35.0, 38.0, 20.0]):
        seen.append(record(number, error))
        if halving.stop(number, seen) is None:
            went_on.append(number)
    # 50: alone. 60: 2nd of 2. 40: best of 3. 45: 2nd of 4, 1 place. 30: best. 35: 2nd of 6, 2 places. 38: 3rd of 7, 2
    # places. 20: best of 8.
    assert went_on == [0, 2, 4, 5, 7]


def test_second_rung_is_compared_at_equal_epochs() -> None:
    halving = Halving(1, 2, 8)
    assert halving.rungs == (1, 2, 4)
    seen = [record(0, 50, 30, 25, 20), record(1, 40, 35), record(2, 45, 34), record(3, 44)]
    assert halving.stop(0, seen) is None, "alone at 4 epochs"
    # at 2 epochs 30, 35, 34: 1 place
    assert halving.stop(1, seen) == "rank 3 of 3 after 2 epochs; the best 1 went on"
    assert halving.stop(2, seen) == "rank 2 of 3 after 2 epochs; the best 1 went on"
    # at 1 epoch 50, 40, 45, 44: 2 places
    assert halving.stop(3, seen) is None


def test_between_rungs_nothing_is_stopped() -> None:
    halving = Halving(2, 2, 8)
    good = record(0, 9, 5, 3, 2)
    assert halving.rungs == (2, 4)
    for errors in ([90.0], [90.0, 90.0, 90.0], [90.0] * 5, [90.0] * 8, []):
        assert halving.stop(1, [good, record(1, *errors)]) is None
    assert halving.stop(1, [good, record(1, 90, 90)]) is not None


def test_equal_errors_share_a_rank() -> None:
    halving = Halving(1, 2, 4)
    seen = [record(number, 10.0) for number in range(4)]
    assert [halving.stop(number, seen) for number in range(4)] == [None] * 4


def test_stopped_and_diverged_trials_stay_as_evidence() -> None:
    pruned = TrialRecord(0, TrialState.PRUNED, {}, 1, {1: 20.0})
    diverged = TrialRecord(1, TrialState.DIVERGED, {}, 1, {1: 100.0})
    failed = TrialRecord(2, TrialState.FAILED, {}, 0)
    halving = Halving(1, 2, 4)
    assert halving.stop(3, [pruned, diverged, failed, record(3, 30.0)]) is not None  # 2nd of 3, 1 place
    assert halving.stop(3, [pruned, diverged, failed, record(4, 90.0), record(3, 30.0)]) is None  # 2nd of 4, 2 places


def test_without_halving() -> None:
    assert NoHalving().stop(0, [record(0, 100.0), record(1, 1.0)]) is None

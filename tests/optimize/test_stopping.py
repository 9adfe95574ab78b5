"""Median stopping and the one-epoch baseline against tables worked out by hand."""

import pytest

from search.optimize.schedulers import Held, MedianStopping, NoStopping, OneEpochTopK
from search.records import Standings, TrialRecord, TrialState


def record(number: int, *errors: float, state: TrialState = TrialState.RUNNING) -> TrialRecord:
    return TrialRecord(number, state, {}, len(errors), dict(enumerate(errors, 1)))


# error after epoch      1   2   3   4       averages over 2, over 3 epochs
OTHERS = [
    record(0, 60, 40, 20, 10, state=TrialState.COMPLETE),  # 50, 40
    record(1, 50, 30, 22),  #                                40, 34
    record(2, 90, 80, 70, state=TrialState.PRUNED),  #       85, 80
    record(3, 80, 60),  #                                    70
    record(4, 20),
]  # medians: over 2 epochs of 40, 50, 70, 85: 60; over 3 epochs of 34, 40, 80: 40


@pytest.mark.parametrize(
    ("errors", "held"),
    [
        ([99.0], None),  # before the first rung
        ([99.0, 60.0], None),  # the best is no worse than the median
        ([60.0, 99.0], None),  # the best counts, not the last
        ([99.0, 60.5], "best error 60.5 % above 60 %, the median of 4 others"),
        ([99.0, 99.0, 40.0], None),
        ([99.0, 99.0, 41.0], "best error 41 % above 40 %, the median of 3 others"),
        ([99.0] * 4, None),  # the last epoch is no rung
    ],
)
def test_median_of_the_others_averages(errors: list[float], held: str | None) -> None:
    rule = MedianStopping(first_rung=2, epochs=4)
    assert rule.rungs == (2, 3)
    expected = None if held is None else Held(held, final=True)
    assert rule.hold(9, Standings([*OTHERS, record(9, *errors)])) == expected


def test_one_that_diverged_counts_as_the_worst() -> None:
    """Averages over 2 epochs are then 40, 50, 70, 85, 100 and 100: their median is 77.5."""
    rule = MedianStopping(first_rung=2, epochs=4)
    bad = [record(number, 95.0, state=TrialState.DIVERGED) for number in (5, 6)]
    assert rule.hold(9, Standings([*OTHERS, *bad, record(9, 99, 77)])) is None
    assert rule.hold(9, Standings([*OTHERS, *bad, record(9, 99, 78)])) is not None


def test_a_median_of_two_says_nothing() -> None:
    rule = MedianStopping(first_rung=2, epochs=9)
    bad = record(9, 99, 99)
    assert rule.hold(9, Standings([*OTHERS[:2], bad])) is None
    assert rule.hold(9, Standings([*OTHERS[:3], bad])) is not None
    assert rule.promote(Standings([*OTHERS, bad]), {9}, True) is None


def test_without_stopping() -> None:
    rule = NoStopping(9)
    assert rule.rungs == ()
    assert rule.hold(0, Standings([record(0, 100.0), record(1, 1.0)])) is None
    assert rule.promote(Standings([record(0, 1.0)]), {0}, True) is None


def test_the_best_after_one_epoch_train_to_the_end() -> None:
    rule = OneEpochTopK(top=2, epochs=4)
    assert rule.rungs == (1,)
    seen = [record(n, error) for n, error in enumerate([40.0, 20.0, 50.0, 30.0])]
    assert [rule.hold(n, Standings(seen)) for n in range(4)] == [
        Held(f"rank {rank} of 4 after 1 epoch; the best 2 go on", final=False) for rank in (3, 1, 4, 2)
    ]
    assert rule.promote(Standings(seen), {0, 1, 2, 3}, False) is None, "more trials are to come"
    assert rule.promote(Standings([*seen, record(4)]), {0, 1, 2, 3}, True) is None, "one has not had its epoch"
    assert rule.promote(Standings(seen), {0, 1, 2, 3}, True) == 1
    going = [*seen[:1], record(1, 20, 15), *seen[2:]]
    assert rule.hold(1, Standings(going)) is None, "on its way to the end"
    assert rule.promote(Standings(going), {0, 2, 3}, True) == 3
    assert rule.promote(Standings(going), {0, 2}, True) is None, "the third does not go on"


def test_what_failed_before_its_first_epoch_keeps_nobody_waiting() -> None:
    seen = [record(0, 30), record(1, state=TrialState.FAILED), record(2, 100, state=TrialState.DIVERGED)]
    assert OneEpochTopK(top=1, epochs=4).promote(Standings(seen), {0}, True) == 0

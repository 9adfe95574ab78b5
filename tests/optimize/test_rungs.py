"""Successive halving against decisions worked out by hand."""

import pytest

from search.optimize.schedulers import Halving, make_scheduler
from search.records import Standings, TrialRecord, TrialState
from search.spec import Scheduler, SearchSpec


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
        if halving.hold(number, Standings(seen)) is None:
            went_on.append(number)
    # 50: alone. 60: 2nd of 2. 40: best of 3. 45: 2nd of 4, 1 place. 30: best. 35: 2nd of 6, 2 places. 38: 3rd of 7, 2
    # places. 20: best of 8.
    assert went_on == [0, 2, 4, 5, 7]


def test_second_rung_is_compared_at_equal_epochs() -> None:
    halving = Halving(1, 2, 8)
    assert halving.rungs == (1, 2, 4)
    seen = [record(0, 50, 30, 25, 20), record(1, 40, 35), record(2, 45, 34), record(3, 44)]
    assert halving.hold(0, Standings(seen)) is None, "alone at 4 epochs"
    # at 2 epochs 30, 35, 34: 1 place
    assert halving.hold(1, Standings(seen)) == "rank 3 of 3 after 2 epochs; the best 1 went on"
    assert halving.hold(2, Standings(seen)) == "rank 2 of 3 after 2 epochs; the best 1 went on"
    # at 1 epoch 50, 40, 45, 44: 2 places
    assert halving.hold(3, Standings(seen)) is None


def test_between_rungs_nothing_is_held() -> None:
    halving = Halving(2, 2, 8)
    good = record(0, 9, 5, 3, 2)
    assert halving.rungs == (2, 4)
    for errors in ([90.0], [90.0, 90.0, 90.0], [90.0] * 5, [90.0] * 8, []):
        assert halving.hold(1, Standings([good, record(1, *errors)])) is None
    assert halving.hold(1, Standings([good, record(1, 90, 90)])) is not None


def test_who_counts_and_how() -> None:
    halving = Halving(1, 2, 4)
    equal = Standings([record(number, 10.0) for number in range(4)])
    assert [halving.hold(number, equal) for number in range(4)] == [None] * 4, "equal errors share a rank"
    ended = [
        TrialRecord(0, TrialState.PRUNED, {}, 1, {1: 20.0}),
        TrialRecord(1, TrialState.DIVERGED, {}, 1, {1: 100.0}),
        TrialRecord(2, TrialState.FAILED, {}, 0),
    ]
    assert halving.hold(3, Standings([*ended, record(3, 30.0)])) is not None, "2nd of 3, 1 place"
    assert halving.hold(3, Standings([*ended, record(4, 90.0), record(3, 30.0)])) is None, "2nd of 4, 2 places"


def test_a_trial_that_diverged_is_worst_at_later_rungs() -> None:
    """It can never get there, so it is one of those that a better one has beaten."""
    halving = Halving(1, 2, 8)
    seen = [record(0, 30, 20), record(1, 40, 30)]
    assert halving.hold(1, Standings(seen)) is not None  # at 2 epochs: 2nd of 2, 1 place
    diverged = [TrialRecord(n, TrialState.DIVERGED, {}, 1, {1: 100.0}) for n in (2, 3)]
    assert halving.hold(1, Standings([*seen, *diverged])) is None  # 2nd of 4, 2 places


def test_what_waits_is_promoted_as_soon_as_enough_worse_ones_have_come() -> None:
    halving = Halving(1, 3, 9)
    seen = [record(0, 30), record(1, 35), record(2, 40), record(3, 50), record(4, 60)]
    waiting = {1, 2, 3, 4}
    assert halving.promote(Standings(seen[:2]), {1}) is None, "fewer than compete for one place"
    assert halving.promote(Standings(seen), waiting) is None, "5 trials: 1 place, and 30 has it"
    seen.append(record(5, 70))
    waiting.add(5)
    assert halving.promote(Standings(seen), waiting) == 1, "6 trials: 2 places"
    assert halving.promote(Standings(seen), waiting - {1}) is None, "both places are taken"
    seen += [record(6, 20), record(7, 80), record(8, 90)]
    assert halving.promote(Standings(seen), waiting - {1} | {7, 8}) is None, "9 trials: 3 places, of 20, 30 and 35"
    assert halving.promote(Standings(seen), waiting | {7, 8}) == 1
    assert halving.promote(Standings(seen), waiting | {6, 7, 8}) == 6, "the best first"
    assert halving.promote(Standings(seen), set()) is None


def test_the_highest_rung_is_promoted_first() -> None:
    halving = Halving(1, 2, 8)
    seen = [record(0, 10, 9), record(1, 12, 8), record(2, 11), record(3, 50), record(4, 60), record(5, 70)]
    # after 1 epoch 10, 12, 11, 50, 60, 70: 3 places; after 2 epochs 9, 8: 1 place
    assert halving.promote(Standings(seen), {0, 1, 2, 3, 4, 5}) == 1
    assert halving.promote(Standings(seen), {0, 2, 3, 4, 5}) == 2, "the place of the second rung is taken"
    assert halving.promote(Standings(seen), {0, 3, 4, 5}) is None


def test_without_stopping_nothing_is_held_or_promoted() -> None:
    rule = make_scheduler(SearchSpec(scheduler=Scheduler.NONE, first_rung=1), 9)
    assert (rule.rungs, rule.first_compared) == ((), 9)
    assert rule.hold(0, Standings([record(0, 100.0), record(1, 1.0)])) is None
    assert rule.promote(Standings([record(0, 1.0)]), {0}) is None

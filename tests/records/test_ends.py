"""Why a search ends before its trials are done; expected values are counted by hand."""

from dataclasses import replace

import pytest

from search.records import Course, End, Spent, TrialRecord, Trials, TrialState
from search.records.ends import without_better
from search.spec import Objective, SearchSpec

ERROR, MACS = Objective.VAL_ERROR, Objective.MACS


def trained(number: int, error: float, ended: int | None = None, macs: int = 1) -> TrialRecord:
    record = TrialRecord(number, TrialState.COMPLETE, {}, 1, {1: error}, macs=macs)
    return replace(record, ended=number if ended is None else ended)


@pytest.mark.parametrize(
    ("errors", "since"),
    [([], 0), ([5.0], 0), ([5.0, 5.0], 1), ([5.0, 6.0, 4.0], 0), ([5.0, 4.9, 7.0, 4.9, 6.0], 3)],
)
def test_trainings_since_one_was_better(errors: list[float], since: int) -> None:
    assert without_better([trained(i, error) for i, error in enumerate(errors)], (ERROR,)) == since


def test_trainings_count_in_the_order_in_which_they_ended() -> None:
    first_ends_last = [trained(0, 1.0, ended=9), trained(1, 5.0), trained(2, 6.0)]
    assert without_better(first_ends_last, (ERROR,)) == 0
    paused = replace(trained(3, 9.0), state=TrialState.PRUNED)
    assert without_better([trained(0, 1.0), paused], (ERROR,)) == 0


def test_with_several_objectives_better_is_what_nothing_before_equals_or_beats() -> None:
    cheaper, beaten, same = trained(1, 9.0, macs=3), trained(2, 6.0, macs=7), trained(3, 5.0, macs=7)
    trials = [trained(0, 5.0, macs=7), cheaper, beaten, same]
    assert without_better(trials, (ERROR, MACS)) == 2
    assert without_better(trials, (ERROR,)) == 3


def test_a_target_is_reached_by_one_trial_in_each_objective() -> None:
    search = SearchSpec(objectives=(ERROR, MACS), target={ERROR: 5.0, MACS: 4})
    apart = [trained(0, 5.0, macs=5), trained(1, 6.0, macs=4)]
    assert End.of_found(search, apart) is None
    end = End.of_found(search, [*apart, trained(2, 5.0, macs=4)])
    assert end == End("target", {"val_error": 5.0, "macs": 4.0}, "trial 2 reached the target (val_error 5, macs 4)")
    fast = SearchSpec(objectives=(ERROR, Objective.IMAGES_PER_S), target={Objective.IMAGES_PER_S: 100})
    speeds = [replace(trained(0, 5.0), images_per_s=speed) for speed in (99.0, 101.0)]
    assert [End.of_found(fast, [trial]) is not None for trial in speeds] == [False, True]


def test_what_the_finals_need_is_kept_of_gpu_hours_and_money_and_not_of_time() -> None:
    search = SearchSpec(time_budget=3600, gpu_hours=10, max_cost="20 usd")
    spent, kept = Spent(1800, 7.5, {"USD": 12.5, "EUR": 99}), Spent(9999, 2.0, {"USD": 7.25})
    assert End.of_spent(search, spent, kept) is None
    assert [str(budget) for budget in spent.budgets(search, kept)] == [
        "30 min 00 s spent, 30 min 00 s left",
        "7.5 GPU-hours spent, 2.5 left (2 for the finals)",
        "12.5 USD spent, 7.5 left (7.25 for the finals)",
    ]
    late = End.of_spent(search, spent + Spent(cost={"USD": 0.25}), kept)
    assert late == End("max_cost", "20 USD", "12.8 of 20 USD spent, and 7.25 kept for the finals")
    assert End.of_spent(search, spent + Spent(gpu_hours=0.5), kept) is not None
    over = End.of_spent(search, spent + Spent(seconds=1800), Spent())
    assert over == End("time_budget", 3600.0, "time budget of 3600 s spent")


def test_an_end_stands_until_more_is_asked_for() -> None:
    """What the finals need was kept when it was decided, and is not known to who reads the records."""
    search, trials = SearchSpec(gpu_hours=10), Trials([trained(0, 5.0)])
    course = Course(Spent(60, 8.0), None, End("gpu_hours", 10.0, "8 of 10 GPU-hours spent, and 2 kept for the finals"))
    assert trials.is_complete(search, course)
    assert trials.stop_reason(search, course) == "8 of 10 GPU-hours spent, and 2 kept for the finals"
    more = search.model_copy(update={"gpu_hours": 12.0})
    assert not trials.is_complete(more, course)
    assert trials.stop_reason(more, course) is None
    less = search.model_copy(update={"gpu_hours": 8.0})
    assert trials.stop_reason(less, course) == "8 of 8 GPU-hours spent"

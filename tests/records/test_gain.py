"""The gain that is expected of more search, against enumeration, known laws and sums by hand."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from search.records import TrialRecord, Trials, TrialState
from search.records.gain import HOUR, mean_fall, tenth
from tests.support import sample_study as sample


def parts(x: list[float], p: float) -> list[tuple[float, float]]:
    """(fall, probability) of every part of the values, each value in it with probability p."""
    found: list[tuple[float, float]] = []
    for taken in product([False, True], repeat=len(x)):
        others = [value for value, one in zip(x, taken, strict=True) if not one] or x[-1:]
        found.append((min(others) - x[0], float(np.prod([p if one else 1 - p for one in taken]))))
    return found


@pytest.mark.parametrize("p", [0.05, 0.25, 0.5])
def test_the_fall_is_that_of_all_parts(p: float) -> None:
    x = sorted([7.2, 3.1, 3.1, 12.0, 4.5, 30.0, 5.25])
    falls = parts(x, p)
    assert sum(probability for _, probability in falls) == pytest.approx(1)
    assert mean_fall(x, p) == pytest.approx(sum(fall * probability for fall, probability in falls))
    bound = tenth(x, p)
    assert sum(probability for fall, probability in falls if fall > bound) <= 0.1
    lower = [fall for fall, _ in falls if fall < bound]
    assert not lower or sum(probability for fall, probability in falls if fall > max(lower)) > 0.1


@pytest.mark.parametrize(("n", "m"), [(20, 5), (20, 20), (50, 50)])
def test_it_is_what_more_draws_of_a_known_law_bring(n: int, m: int) -> None:
    """The minimum of n exponential draws is 1 / n on average, of n uniform ones 1 / (n + 1)."""
    rng, p = np.random.default_rng(0), m / (n + m)
    for drawn, truth in (
        (rng.exponential(size=(4000, n)), 1 / n - 1 / (n + m)),
        (rng.random((4000, n)), 1 / (n + 1) - 1 / (n + m + 1)),
    ):
        expected = (1 - p) * np.mean([mean_fall(sorted(row.tolist()), p) for row in drawn])
        assert expected == pytest.approx(truth, rel=0.12)  # it is exact only as n grows


def trial(number: int, error: float, state: TrialState = TrialState.COMPLETE) -> TrialRecord:
    return replace(sample.trial(0), number=number, state=state, curve={1: error}, epochs=1)


def test_an_hour_by_hand() -> None:
    trials = Trials(trial(number, error) for number, error in enumerate([5.0, 1.0, 4.0, 2.0, 3.0]))
    gain = trials.expected_gain(HOUR)
    # p = 1/2; the four gaps are 1 point each: (1/2 + 1/4 + 1/8 + 1/16) / 2, and 1/16 is the first p^i below 1/10
    assert gain is not None
    assert (gain.seconds, gain.points, gain.tenth) == (HOUR, pytest.approx(15 / 32), 3.0)
    assert str(gain) == "another hour is expected to bring 0.47 points (one in ten: more than 3.00)"
    paused = trial(5, 0.6, TrialState.RUNNING), trial(6, 0.1, TrialState.DIVERGED)
    more = Trials([*trials, *paused]).expected_gain(HOUR)
    assert more is not None
    assert (more.points, more.tenth) == (pytest.approx(15 / 32 + 0.4 / 2), pytest.approx(3.4))
    late = trials.expected_gain(9.5 * HOUR)  # p = 2/21: less than one in ten
    assert late is not None
    assert str(late) == "another hour is expected to bring 0.10 points (nine in ten: none)"


def test_it_looks_no_further_ahead_than_back() -> None:
    gain = sample.trials().expected_gain(750)
    assert gain is not None
    assert str(gain).startswith("another 12 min 30 s is expected to bring ")


def test_where_nothing_can_be_said() -> None:
    complete = Trials(trial(number, float(number)) for number in range(5))
    assert complete.expected_gain(HOUR) is not None
    assert complete.expected_gain(0.0) is None
    assert complete.expected_gain(HOUR, "all 5 configurations of the space have been tried") is None
    assert Trials([*complete[:4], trial(4, 4.0, TrialState.PRUNED)]).expected_gain(HOUR) is None

"""The race against published numbers, thresholds by hand, any order of arrival, and simulated finalists."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from search.optimize import verdict
from search.optimize.finals import best_trials
from search.optimize.race import Claim, Outcomes, Verdict, equal_pairs, outcomes, race
from search.records import Finalist, Finals, SeedRun, TrialRecord, Trials, TrialState
from search.spec import Objective, TrialSpec
from search.statistics import seeds_for, seeds_needed

CLEAR = {0: [6.0, 6.1, 6.2, 6.05, 6.1], 1: [6.2, 6.3, 6.25, 6.1, 6.15], 2: [9.0, 9.1, 9.2, 9.1, 9.0]}


def upto(results: Outcomes, size: int) -> dict[int, list[float | None]]:
    return {number: list(errors)[:size] for number, errors in results.items()}


def p_of(a: list[float], b: list[float]) -> float:
    known: Any = stats.ttest_ind(a, b, equal_var=False)
    return float(known.pvalue)


def test_pairs_that_can_be_equal_are_shaffers() -> None:
    """Shaffer (1986): of 4 means 6, 3, 3, 3, 2, 1; of 5 means 10, 6, 6, 6, 6, 4, 4, 3, 2, 1."""
    published = {2: [1], 3: [3, 1, 1], 4: [6, 3, 3, 3, 2, 1], 5: [10, 6, 6, 6, 6, 4, 4, 3, 2, 1]}
    for finalists, numbers in published.items():
        assert [equal_pairs(finalists, claims) for claims in range(len(numbers))] == numbers


def test_who_cannot_be_told_from_the_best_gets_another_seed() -> None:
    for results in ({0: [], 1: [], 2: []}, {**upto(CLEAR, 3), 2: [9.0, 9.1]}):
        assert race(results, 3, 5) == Verdict(None, (), (), {0: 3, 1: 3, 2: 3}, None), "before all have three seeds"
    found = race(upto(CLEAR, 3), 3, 5)
    assert (found.best, found.rivals, found.separated) == (0, (1,), False)
    assert found.wanted == {0: 4, 1: 4, 2: 3}
    assert {(c.better, c.worse, c.seeds) for c in found.claims} == {(0, 2, 3), (1, 2, 3)}
    assert found.claims[0].p_value == pytest.approx(p_of(CLEAR[0][:3], CLEAR[2][:3]))
    end = race(CLEAR, 3, 5)
    assert (end.best, end.rivals, end.wanted) == (0, (1,), {0: 5, 1: 5, 2: 3})
    assert end.advised == seeds_needed(CLEAR[0], CLEAR[1])  # two pairs are told apart, so one test is left


def test_a_race_ends_when_one_is_left() -> None:
    found = race({0: [6.0, 6.1, 6.2], 1: [9.0, 9.1, 9.2]}, 3, 5)
    assert (found.best, found.rivals, found.separated, found.wanted) == (0, (), True, {0: 3, 1: 3})
    assert found.advised is None
    alone = race({7: [6.0, 6.1, 6.2]}, 3, 5)
    assert (alone.best, alone.separated, alone.wanted, alone.claims) == (7, True, {7: 3}, ())
    assert race({}, 3, 5).best is None


@pytest.mark.parametrize(("apart", "seeds"), [(0.0, 3), (0.06, 3), (0.1, 4)])
def test_a_race_ends_where_more_seeds_have_little_chance(apart: float, seeds: int) -> None:
    """Of 5 seeds with a deviation of 0.1, by Student's noncentral t."""
    a, b = [6.0, 6.1, 6.2], [6.0 + apart, 6.1 + apart, 6.2 + apart]
    chance = stats.nct.sf(stats.t.ppf(0.975, 8), 8, apart / (0.1 * math.sqrt(2 / 5)))
    assert bool(chance > 0.2) is (seeds == 4)
    assert race({0: a, 1: b}, 3, 5).wanted == {0: seeds, 1: seeds}


@pytest.mark.parametrize(
    ("size", "share"), [(3, 27 / 125), (4, (64 - 27) / 125), (5, (125 - 64) / 125)], ids=["first", "second", "last"]
)
def test_each_look_spends_its_part(size: int, share: float) -> None:
    """The looks before it see p too large for theirs."""
    a, b = [6.0, 6.4, 6.2, 6.0, 6.3][:size], [6.6, 6.4, 7.0, 6.55, 6.8][:size]
    spent = p_of(a, b) / share
    for factor, claimed in ((1 - 1e-6, False), (1 + 1e-6, True)):
        found = race({0: a, 1: b}, 3, 5, level=1 - spent * factor)
        assert bool(found.claims) is claimed
        assert found.best == 0
        assert found.separated is claimed


def test_pairs_share_what_a_look_spends() -> None:
    """Of three: the smallest p against a third; once it is in, the others against the whole."""
    near, middle, far = [0.0, 1.0, 2.0], [2.0, 3.1, 4.0], [8.0, 9.2, 10.0]
    results = {0: near, 1: middle, 2: far}
    ordered = sorted(p_of(results[a], results[b]) for a, b in combinations(results, 2))
    assert 3 * ordered[0] < ordered[1], "the first step is the harder"
    for number, spent in ((0, 3 * ordered[0] * 0.999), (1, 3 * ordered[0] * 1.001), (1, ordered[1] * 0.999)):
        assert len(race(results, 3, 3, level=1 - spent).claims) == number
    assert len(race(results, 3, 3, level=1 - ordered[1] * 1.001).claims) == 2
    assert len(race(results, 3, 3, level=1 - ordered[2] * 1.001).claims) == 3


def test_pairs_told_apart_before_share_no_more() -> None:
    """The third is out at the first look, so the second has one pair only; one that failed never had any."""
    a, b = [6.0, 6.4, 6.2, 6.0], [6.6, 6.4, 7.0, 6.55]
    last = p_of(a, b) / (37 / 64)
    for factor, number in ((0.999, 2), (1.001, 3)):
        found = race({0: a, 1: b, 2: [9.0, 9.1, 9.2]}, 3, 4, level=1 - last * factor)
        assert [claim.seeds for claim in found.claims] == [3, 3, 4][:number]
    for factor, separated in ((0.999, False), (1.001, True)):
        alone = race({0: a, 1: b, 2: [6.0, None, 6.1]}, 3, 4, level=1 - last * factor)
        assert alone.separated is separated


def test_the_advice_is_for_the_tests_that_are_left() -> None:
    a, b = [6.0, 6.3, 6.6], [6.5, 6.8, 7.1]
    found = race({0: a, 1: b, 2: [6.6, 6.9, 7.2]}, 3, 3)
    assert not found.claims
    assert found.advised == seeds_for(0.5, (0.3, 0.3), level=1 - 0.05 / 3)
    assert race({0: a, 1: b}, 3, 3).advised == seeds_for(0.5, (0.3, 0.3))
    assert race({0: a, 1: a}, 3, 3).advised is None


def test_who_failed_is_out_and_lets_in_whom_it_had_put_out() -> None:
    diverged = race({**upto(CLEAR, 3), 0: [6.0, None, 6.2]}, 3, 5)
    assert (diverged.best, diverged.separated, diverged.wanted) == (1, True, {0: 3, 1: 3, 2: 3})
    late = {0: [6.0, 6.1, 6.2, None], 1: [6.4, 6.5, 7.2, 6.2], 2: [7.0, 7.1, 7.2]}
    before = race(upto(late, 3), 3, 5)
    assert [(c.better, c.worse) for c in before.claims] == [(0, 2)]
    assert before.wanted == {0: 4, 1: 4, 2: 3}
    again = race(late, 3, 5)
    assert again.wanted == {0: 4, 1: 4, 2: 4}
    assert (again.best, again.rivals) == (1, (2,))
    assert race({**late, 2: [7.0, 7.1, 7.2, 7.1]}, 3, 5).wanted == {0: 4, 1: 5, 2: 5}
    assert race({0: [None] * 3, 1: [6.0, None, 6.0]}, 3, 5).best is None


def test_counts_of_images_that_agree_part_no_finalists() -> None:
    few = {0: [2.5, 2.5, 2.5], 1: [2.5 + 100 / 360] * 3}
    assert not race(few, 3, 5, resolution=100 / 360).claims
    assert race({0: [2.5] * 3, 1: [9.5] * 3}, 3, 5, resolution=100 / 360).separated
    assert not race(few, 3, 5).claims, "no spread and nothing known of it"


Train = Callable[[int, int], float | None]


def run(numbers: list[int], train: Train, rng: np.random.Generator) -> tuple[Verdict, list[Verdict], int]:
    """A race whose trainings end in any order and which is continued after each: verdict, those seen, trainings."""
    done: dict[tuple[int, int], float | None] = {}
    seen: list[Verdict] = []
    while True:
        results: dict[int, list[float | None]] = {n: [] for n in numbers}
        for n in numbers:
            while (n, len(results[n])) in done:
                results[n].append(done[n, len(results[n])])
        found = race(results, 3, 7)
        if not seen or seen[-1] != found:
            seen.append(found)
        missing = [(n, s) for n in numbers for s in range(found.wanted[n]) if (n, s) not in done]
        if not missing:
            return found, seen, len(done)
        number, seed = missing[rng.integers(len(missing))]
        done[number, seed] = train(number, seed)


@pytest.mark.parametrize("case", range(12))
def test_any_order_of_arrival_decides_the_same(case: int) -> None:
    rng = np.random.default_rng(case)
    errors = rng.normal(size=(4, 7)) + np.array([[0.0], [0.3], [3.0], [6.0]])
    fails = rng.random((4, 7)) < (0.08 if case % 2 else 0.0)

    def train(number: int, seed: int) -> float | None:
        return None if fails[number, seed] else float(errors[number, seed])

    first, *others = (run([0, 1, 2, 3], train, np.random.default_rng(order)) for order in range(4))
    assert all(other == first for other in others), "the end, every decision on the way, and what was trained"
    everything = {n: [train(n, s) for s in range(7)] for n in range(4)}
    assert race(everything, 3, 7) == first[0], "what was trained beyond the looks has no effect"


def finalists(repetitions: int, *means: float, spread: float = 1.0, seeds: int = 5) -> NDArray[np.float64]:
    """Errors by repetition, finalist and seed; the last finalist's deviation is `spread`."""
    deviations = np.array([1.0] * (len(means) - 1) + [spread])
    drawn = np.random.default_rng(len(means)).normal(size=(repetitions, len(means), seeds))
    return drawn * deviations[:, None] + np.array(means)[:, None]


def raced(errors: NDArray[np.float64], level: float = 0.95) -> list[Verdict]:
    return [race(dict(enumerate(table.tolist())), 3, errors.shape[2], level) for table in errors]


@pytest.mark.parametrize(("k", "spread"), [(2, 1.0), (3, 1.0), (5, 1.0), (3, 2.0)])
def test_equal_finalists_are_seldom_told_apart(k: int, spread: float) -> None:
    """At most 1 - level of the races; without sharing between looks and pairs it would be several times as many."""
    errors = finalists(1_500 if k < 5 else 500, *[0.0] * k, spread=spread)
    false = np.mean([bool(found.claims) for found in raced(errors, level=0.8)])
    bound = 3.7 * math.sqrt(0.2 * 0.8 / len(errors))
    assert 0.02 < false < 0.2 + bound
    unshared = np.zeros(len(errors), bool)
    for a, b in combinations(range(k), 2):
        for size in (3, 4, 5):
            known: Any = stats.ttest_ind(errors[:, a, :size], errors[:, b, :size], axis=1, equal_var=False)
            unshared |= known.pvalue <= 0.2
    assert unshared.mean() > (0.2 if k == 2 else 0.4)


def test_differences_are_found_and_equals_behind_them_left() -> None:
    """The best is claimed, between the two behind it no more than 1 - level are; and with few trainings."""
    found = raced(finalists(1_000, 0.0, 6.0, 6.0), level=0.8)
    assert np.mean([v.separated and v.best == 0 for v in found]) > 0.95
    behind = np.mean([any(c.better != 0 for c in v.claims) for v in found])
    assert 0.01 < behind < 0.2 + 3.7 * math.sqrt(0.2 * 0.8 / 1_000)
    large = raced(finalists(500, 0.0, 5.0))
    assert np.mean([v.separated and v.best == 0 for v in large]) > 0.98
    assert np.mean([sum(v.wanted.values()) for v in large]) < 8.5  # of 6 to 10


def test_the_verdict_of_a_study_uses_its_rules() -> None:
    def finalist(number: int, errors: list[float]) -> Finalist:
        runs = (SeedRun(s, s, TrialState.COMPLETE, 1, test_error=e) for s, e in enumerate(errors))
        return Finalist(number, {}, tuple(runs))

    both = (finalist(4, [2.5, 2.5]), finalist(9, [7.5, 7.5]))
    shown = Finals(both, epochs=1, seeds=2, most_seeds=2, level=0.9, trained_on=100, tested_on=40, complete=True)
    # By hand: each deviation half of 100 / 40, t of 4 with 2 degrees of freedom, p 0.057
    (claim,) = verdict(shown).claims
    assert claim == Claim(4, 9, 2, claim.p_value)
    assert claim.p_value == pytest.approx(2 * stats.t.sf(4, 2))
    assert not verdict(replace(shown, level=0.95)).claims
    sound, running = both[0].runs, SeedRun(2, 2, TrialState.RUNNING, 0)
    late = (*sound[:1], SeedRun(1, 1, TrialState.DIVERGED, 1), running, SeedRun(3, 3, TrialState.COMPLETE, 1))
    assert outcomes(Finalist(4, {}, late)) == (2.5, None), "those that are over, up to the first that is not"
    assert outcomes(Finalist(4, {}, (late[3], late[0]))) == (2.5,)


@pytest.mark.parametrize("of", [((20, "scratch"), (8, "scratch")), ((20, "study:one"), (20, "scratch"))])
def test_finalists_are_different_networks_or_starts_first(of: tuple[tuple[int, str], ...]) -> None:
    """Of four trials by rising error the first, second and fourth are of one network, and the third of another."""

    def trial(number: int, depth: int, start: str) -> TrialRecord:
        given = {"net.depth": depth, "train.start": start, "train.lr": 0.1 + number / 10}
        params = TrialSpec.from_flat(given).flat()
        return TrialRecord(number, TrialState.COMPLETE, params, epochs=1, curve={1: 1.0 + number})

    trials = Trials(trial(number, *of[kind]) for number, kind in enumerate((0, 0, 1, 0)))
    assert [one.number for one in best_trials(trials, (Objective.VAL_ERROR,), 2)] == [0, 2]
    assert [one.number for one in best_trials(trials, (Objective.VAL_ERROR,), 3)] == [0, 2, 1]

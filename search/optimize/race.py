"""Which finalists get another seed, and which the tests have told apart. Pure: a race continued decides as it had.

A race is a number of looks, at `seeds`, `seeds` + 1 ... `max_seeds` trainings. At each look every two finalists in the
race are compared, by Welch's test of exactly so many trainings of both. Who is found worse than another is out; the
others get one more seed. So it never matters which trainings of an incomplete round have ended. A race is over where no
two in it have a chance of `FUTILE` or more to be told apart by the last look, if the true differences are those
measured so far.

Comparing often, and many, finds differences where there are none. Over the whole race that is held to 1 - level:
- over looks: each spends a share of 1 - level (Bonferroni), of which (n / most)^3 is spent by n trainings, little at
  first and most at the end (Kim and DeMets, Biometrika 1987, the power family);
- over pairs: Holm's steps (Scandinavian Journal of Statistics 1979) with Shaffer's numbers (JASA 1986): once some pairs
  are told apart, only so many others can be equal at once.
A finalist that is out is compared no more: it is out because of its figures, so they would speak against it again.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from itertools import combinations, takewhile
from math import comb
from statistics import fmean

from search.records import Finalist, Finals, TrialState
from search.statistics import difference, power_seen, seeds_needed

Outcomes = Mapping[int, Sequence[float | None]]  # finalist -> test errors in percent by seed, None: that run failed
GROWTH = 3  # with 3 the looks spend much like O'Brien and Fleming's
FUTILE = 0.2  # a chance below which more seeds are not worth their time


@dataclass(frozen=True)
class Claim:
    """A finalist found better than another."""

    better: int
    worse: int
    seeds: int  # of either, that were compared
    p_value: float  # Welch's, two-sided, of this comparison alone


@dataclass(frozen=True)
class Verdict:
    """What a race has shown by its complete looks."""

    best: int | None  # of lowest mean error among those in the race; None before the first look, or where all failed
    rivals: tuple[int, ...]  # the others in the race, lowest mean error first
    claims: tuple[Claim, ...]  # in the order in which they were found
    wanted: Mapping[int, int]  # finalist -> trainings that it is to have by now; where all have them the race is over
    advised: int | None  # trainings of each that would tell the best from the first rival, see `seeds_needed`

    @property
    def separated(self) -> bool:
        """Whether every other that did not fail was found worse than the best, or than one that was in its turn."""
        return self.best is not None and not self.rivals


def outcomes(finalist: Finalist) -> tuple[float | None, ...]:
    """Its test errors in percent by seed from 0, None for a run that failed, up to the first that is not over."""
    over = {run.seed: run.test_error for run in finalist.runs if run.state is not TrialState.RUNNING}
    return tuple(over[seed] for seed in takewhile(over.__contains__, range(len(over))))


def verdict(finals: Finals) -> Verdict:
    """The verdict of a study's finals."""
    results = {finalist.number: outcomes(finalist) for finalist in finals.finalists}
    return race(results, finals.seeds, finals.most_seeds, finals.level, 100 / finals.tested_on)


def race(
    results: Outcomes, seeds: int, max_seeds: int, level: float = 0.95, resolution: float | None = None
) -> Verdict:
    """Replays a race from its first look, as far as the results go; those beyond the look that is due have no effect.

    With probability `level` or more all claims are true, whichever finalists differ, as far as Welch's test holds what
    it says. A longer `max_seeds` given after looking begins a second race, with as much chance of its own to err. A
    finalist of which a run failed is out; those whom it alone had put out are in again, and catch up.

    Args:
        results: of every finalist.
        seeds: trainings of each at the first look, 2 or more.
        max_seeds: at the last look.
        level: probability that all claims are true.
        resolution: step between errors in percent, as in `statistics`.
    """
    wanted, failed = dict.fromkeys(results, seeds), set[int]()
    claims, errors = list[Claim](), dict[int, list[float]]()
    entered = sum(None not in finalist[:seeds] for finalist in results.values())
    for size in range(seeds, max_seeds + 1):
        pairs = combinations([errors[n] for n in _racing(results, failed, claims) if n in errors], 2)
        shared = (1 - level) / max(1, equal_pairs(entered, len(claims)))
        if errors and all(power_seen(a, b, max_seeds, 1 - shared, resolution) < FUTILE for a, b in pairs):
            break
        if not _complete(results, size, failed, claims, wanted):
            break
        at_look = {n: [e for e in results[n][:size] if e is not None] for n in _racing(results, failed, claims)}
        before = 0 if size == seeds else size - 1
        spent = (1 - level) * ((size / max_seeds) ** GROWTH - (before / max_seeds) ** GROWTH)
        claims += _found(at_look, spent, entered, len(claims), resolution)
        errors |= at_look
    racing = [n for n in _racing(results, failed, claims) if n in errors]
    racing.sort(key=lambda n: (round(fmean(errors[n]), 9), n))
    advised = None
    if len(racing) > 1:
        first, second = (errors[n] for n in racing[:2])
        advised = seeds_needed(
            first, second, 1 - (1 - level) / equal_pairs(entered, len(claims)), resolution=resolution
        )
    return Verdict(racing[0] if racing else None, tuple(racing[1:]), tuple(claims), wanted, advised)


def equal_pairs(finalists: int, claims: int) -> int:
    """How many pairs of finalists can be equal at once, where so many pairs at least are not (Shaffer's numbers)."""
    return max(pairs for pairs in _pairs_within_groups(finalists) if pairs <= comb(finalists, 2) - claims)


@cache
def _pairs_within_groups(finalists: int) -> frozenset[int]:
    """The numbers of pairs within groups, over all ways to group so many finalists by equal error."""
    return frozenset(
        {0}
        | {
            comb(group, 2) + others
            for group in range(1, finalists + 1)
            for others in _pairs_within_groups(finalists - group)
        }
    )


def _racing(results: Iterable[int], failed: Set[int], claims: Sequence[Claim]) -> list[int]:
    """Those that did not fail, and were not found worse than one that did not."""
    out = failed | {claim.worse for claim in claims if claim.better not in failed}
    return [n for n in results if n not in out]


def _complete(results: Outcomes, size: int, failed: set[int], claims: Sequence[Claim], wanted: dict[int, int]) -> bool:
    """Whether all in the race have `size` trainings; enters who should in `wanted`, and who failed in `failed`."""
    while True:
        racing = _racing(results, failed, claims)
        wanted |= dict.fromkeys(racing, size)
        if any(len(results[n]) < size for n in racing):
            return False
        fallen = {n for n in racing if None in results[n][:size]}
        if not fallen:
            return True
        failed |= fallen


def _found(
    errors: Mapping[int, Sequence[float]], spent: float, entered: int, claimed: int, resolution: float | None
) -> list[Claim]:
    """What a look finds: pairs by rising p, until one is above its share of what the look spends."""
    compared: list[Claim] = []
    for a, b in combinations(errors, 2):
        if (seen := difference(errors[a], errors[b], resolution=resolution)) is not None:
            better, worse = (a, b) if seen.mean < 0 else (b, a)
            compared.append(Claim(better, worse, len(errors[a]), seen.p_value))
    compared.sort(key=lambda claim: (claim.p_value, claim.better, claim.worse))
    steps = enumerate(compared, claimed)
    return [claim for at, claim in takewhile(lambda s: s[1].p_value * equal_pairs(entered, s[0]) <= spent, steps)]

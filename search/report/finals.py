"""What follows from the finals of a study: order, means with intervals, and who can be told from the best."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, median, stdev

from scipy import integrate
from scipy.stats import norm

from search import formatting, optimize
from search.records import Finalist, Finals, SeedRun, StudySummary, TrialRecord, TrialState
from search.statistics import Difference, Interval, difference, probability_lower, seeds_needed

LOST = (TrialState.FAILED, TrialState.DIVERGED, TrialState.INFEASIBLE)


@dataclass(frozen=True)
class Standing:
    """One finalist and its test errors, in percent; figures that too few trainings give are None."""

    finalist: Finalist
    rank: int | None  # None where none of its trainings was tested
    mean: float | None
    deviation: float | None  # of single trainings, in points
    interval: Interval | None  # of the mean over seeds, on these test images
    median: float | None
    lower: float | None  # probability that its mean is below the champion's; None for the champion itself
    against: Difference | None  # its mean less the champion's

    @property
    def errors(self) -> tuple[float, ...]:
        """Test errors by seed."""
        return self.finalist.tested

    @property
    def lost(self) -> tuple[SeedRun, ...]:
        """Trainings that failed, diverged or did not fit."""
        return tuple(run for run in self.finalist.runs if run.state in LOST)

    @property
    def seconds(self) -> float:
        """Of all trainings."""
        return sum(run.seconds or 0.0 for run in self.finalist.runs)


def standings(finals: Finals) -> list[Standing]:
    """The finalists: the champion, then by mean test error those that lost no training, those that did, the rest."""
    resolution = 100 / finals.tested_on
    best = finals.champion

    def place(finalist: Finalist) -> tuple[bool, bool, bool, float, int]:
        lost = any(run.state in LOST for run in finalist.runs)
        mean = fmean(finalist.tested) if finalist.tested else 0.0
        return finalist is not best, not finalist.tested, lost, mean, finalist.number

    def standing(rank: int, finalist: Finalist) -> Standing:
        errors = finalist.tested
        other = best.tested if best is not None and finalist is not best else ()
        return Standing(
            finalist,
            rank if errors else None,
            finalist.mean,
            stdev(errors) if len(errors) > 1 else None,
            finals.interval(finalist),
            median(errors) if errors else None,
            probability_lower(errors, other, resolution),
            difference(errors, other, finals.level, resolution),
        )

    return [standing(rank, finalist) for rank, finalist in enumerate(sorted(finals.finalists, key=place), start=1)]


def champion(order: Sequence[Standing], finals: Finals) -> Standing | None:
    """The finalist that the study names; None while none is tested."""
    return next((s for s in order if s.finalist.number == finals.champion_number and s.errors), None)


@dataclass(frozen=True)
class Verdict:
    """How the champion stands to the others that lost no training."""

    next: Standing | None  # the lowest mean of the others; None where there is none to compare with
    close: tuple[Standing, ...]  # those that the race has not told from it, nearest first
    probability: float | None  # that the champion's mean is below that of `next`
    needed: int | None  # seeds of either to tell it from the nearest of `close`, were the difference seen the true one


def verdict_of(order: Sequence[Standing], finals: Finals) -> Verdict:
    """Of a study with a champion: what `search.optimize.race` has told apart."""
    first, *rest = order
    others = [s for s in rest if s.errors and not s.lost]
    if not others:
        return Verdict(None, (), None, None)
    raced = optimize.verdict(finals)
    told = raced.best is not None
    near = {raced.best, *raced.rivals}
    close = tuple(s for s in others if s.finalist.number in near or not told)
    lower = None if others[0].lower is None else 1 - others[0].lower
    needed = raced.advised
    if close and {first.finalist.number, close[0].finalist.number} != {raced.best, *raced.rivals[:1]}:
        needed = seeds_needed(first.errors, close[0].errors, finals.level, resolution=100 / finals.tested_on)
    return Verdict(others[0], close, lower, needed if close else None)


def name(finals: Finals, finalist: Finalist) -> str:
    """`trial 7`, or what the study calls it."""
    if finalist.label is not None:
        return finalist.label
    return f"row {finalist.number + 1}" if finals.compared else f"trial {finalist.number}"


def flattery(order: Sequence[Standing]) -> float | None:
    """Points by which the lowest mean of so many finalists lies below its own expectation, were all of them alike.

    The expected lowest of k normal means: the expected largest of k standard normal values times the standard error
    of a mean. None for fewer than two finalists with a deviation.
    """
    known = [s for s in order if s.deviation is not None and not s.lost]
    if len(known) < 2:
        return None
    errors = [(s.deviation or 0.0) ** 2 / len(s.errors) for s in known]
    return largest_of(len(known)) * sqrt(fmean(errors))


def largest_of(k: int) -> float:
    """Expected largest of k independent standard normal values."""

    def weighted(x: float) -> float:
        return k * x * float(norm.pdf(x)) * float(norm.cdf(x)) ** (k - 1)

    return float(integrate.quad(weighted, -12, 12)[0])


def searched(finalist: Finalist, trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """The trial of the search that has this finalist's configuration."""
    return next((trial for trial in trials if trial.number == finalist.number), None)


def missing(summary: StudySummary) -> str | None:
    """What the finals lack, in a sentence; None where nothing is missing, or none were asked for."""
    finals = summary.finals
    if finals is None:
        return "The finals have not begun: no test error is known yet." if summary.finals_asked else None
    if finals.complete and finals.champion_number is not None:
        return None
    runs = [run for finalist in finals.finalists for run in finalist.runs]
    if finals.complete:
        ends = ", ".join(f"{sum(r.state is s for r in runs)} {s}" for s in LOST if any(r.state is s for r in runs))
        return f"The finals name no champion: every finalist lost a training ({ends})."
    done = sum(run.test_error is not None for run in runs)
    least = max(len(finals.finalists) * finals.seeds, len(runs))
    return f"The finals are not complete: {done} of at least {least} trainings are tested."


def running(summary: StudySummary) -> bool:
    """Whether the answer is still that of the search alone."""
    return summary.finals is None or not summary.finals.complete or summary.finals.champion_number is None


def network(finalist: Finalist) -> str:
    """The network in a few words."""
    return formatting.network(finalist.params)

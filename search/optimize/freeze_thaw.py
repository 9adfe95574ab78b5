"""Which step is worth most: a waiting trial's way to its next rung, or a new trial's to the first.

Trials are frozen at rungs and thawed where an epoch of training promises most, as in arXiv:1406.3896. A Gaussian
process models the errors at the first rung; from each rung to the next it is a correction that is linear in the error,
with a process of what is left. So errors after unequal numbers of epochs are never compared as if they were equal.
"""

import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from search.optimize.axes import Axes
from search.optimize.gaussian import Floats, Front, Process, Scales, log_improvement
from search.records import Standings, TrialRecord, TrialState
from search.spec import Objective, Space, Value

STARTUP = 10  # trials at the first rung, before a model of it is asked
EXPLORED = 0.1  # share of decisions that begin a trial at random: a model can take the best that it saw for the best
CLIP = 0.75  # quantile of errors at the first rung above which all are equally bad
ZOOM = 0.3  # of the median less the lowest: how finely errors near the lowest are told apart
MOST, FIT = 150, 64  # trials in the model of the first rung; and in the fit of its scales
REFIT = 1.25  # times as many trials, before scales are fitted again
PAIRS = 6  # trials at a rung, before its correction depends on the configuration
RANDOM, NEAR, BEST = 160, 160, 8  # candidates drawn at random, and drawn near the best
SPREADS = (0.01, 0.4)  # how far from them, of a range: between these, on a log scale
REFINED = ((40, 0.1), (40, 0.03))  # then so many, with such a spread, near the best candidate
REFUSED = 100  # of the trials beyond the limits, the latest
MARGIN = 1e-6  # variance that is left of an error that is known
# The matrices are small: more threads would only take time from the trials, and round in another order.
_ONE_THREAD = ThreadpoolController().wrap(limits=1, user_api="blas")


@dataclass(frozen=True)
class Correction:
    """From one rung to the next: the change of a scaled error, linear in it, and a process of the rest."""

    middle: float = 0.0
    shift: float = 0.0
    slope: float = 1.0
    variance: float = 0.2
    rest: Process | None = None

    @classmethod
    def learned(cls, process: Process, x: Floats, before: Floats, after: Floats) -> "Correction":
        """From trials with scaled errors at both rungs; `process` is that of the first rung."""
        n, change = len(x), after - before
        if n < 3:
            return cls(shift=float(change.mean()), variance=0.1) if n else cls()
        middle, shift = float(before.mean()), float(change.mean())
        off = before - middle
        slope = float(off @ change / (off @ off + 1.0))
        rest = change - shift - slope * off
        variance = float(rest @ rest + 0.02) / n
        if n < PAIRS:
            return cls(middle, shift, 1.0 + slope, variance)
        scales = Scales(process.scales.lengths * math.exp(0.3), 0.3 * variance, 0.7 * variance)
        known = Process(process.owner, scales, x[-MOST:], rest[-MOST:])
        return cls(middle, shift, 1.0 + slope, variance, known)

    def __call__(self, x: Floats, mean: Floats, variance: Floats) -> tuple[Floats, Floats]:
        """What is expected at the next rung of configurations x (n, columns)."""
        up = self.middle + self.shift + self.slope * (mean - self.middle)
        if self.rest is None:
            return up, self.slope**2 * variance + self.variance
        rest, unsure = self.rest.predict(x)
        return up + rest, self.slope**2 * variance + unsure + self.rest.scales.noise


@dataclass(frozen=True)
class Forecast:
    """What is expected of errors at the last epoch, on the scale of the model."""

    process: Process  # of the first rung
    corrections: Sequence[Correction]  # from each rung to the next
    seen: Floats  # (n, rungs): scaled errors; NaN where a trial has not come

    @classmethod
    def of(cls, scales: Scales, owner: NDArray[np.int64], x: Floats, errors: Floats) -> "Forecast":
        """From configurations x (n, columns) and their errors (n, rungs); infinite: diverged, NaN: not reached."""
        z = scaled(errors)
        order = np.lexsort((z[:, 0], -(~np.isnan(z)).sum(1)))  # those that went furthest first, then the lowest
        if len(x) > MOST:
            rest = order[MOST // 2 :]
            order = np.r_[order[: MOST // 2], rest[np.linspace(0, len(rest) - 1, MOST - MOST // 2).astype(int)]]
        process = Process(owner, scales, x[order], z[order, 0])
        corrections: list[Correction] = []
        for rung in range(1, z.shape[1]):
            both = ~np.isnan(z[:, rung])
            corrections.append(Correction.learned(process, x[both], z[both, rung - 1], z[both, rung]))
        return cls(process, corrections, z)

    @cached_property
    def lowest(self) -> float:
        """The lowest error at any rung."""
        return float(np.nanmin(self.seen))

    def new(self, x: Floats, process: Process | None = None) -> tuple[Floats, Floats]:
        """Means and variances of the last error of trials that have not begun."""
        return self._onward(0, x, *(process or self.process).predict(x))

    def begun(self, x: Floats) -> tuple[Floats, Floats]:
        """Those of the trials that it was made of, in their order."""
        last = (~np.isnan(self.seen)).sum(1) - 1
        mean, variance = np.empty(len(x)), np.empty(len(x))
        for rung in range(self.seen.shape[1]):
            at = last == rung
            if at.any():
                known = self.seen[at, rung], np.full(int(at.sum()), 1e-9)
                mean[at], variance[at] = self._onward(rung, x[at], *known)
        return mean, variance

    def _onward(self, rung: int, x: Floats, mean: Floats, variance: Floats) -> tuple[Floats, Floats]:
        for correction in self.corrections[rung:]:
            mean, variance = correction(x, mean, variance)
        return mean, variance


def scaled(errors: Floats) -> Floats:
    """Errors (n, rungs) clipped, on a log scale that is fine near the lowest, standardised by the first rung."""
    finite = errors[np.isfinite(errors)]
    lowest, highest = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    first = np.where(np.isfinite(errors[:, 0]), errors[:, 0], highest)
    top = max(float(np.quantile(first, CLIP)), lowest + 1e-9)
    zoom = ZOOM * max(float(np.median(first)) - lowest, 1e-6)
    logs = np.log(np.minimum(errors, top) - lowest + zoom)
    return (logs - logs[:, 0].mean()) / (logs[:, 0].std() + 1e-9)


def _seldom(n: int, first: int = 1) -> int:
    """The largest number up to n of a series in which each is about `REFIT` times the one before."""
    while math.ceil(first * REFIT) <= n:
        first = math.ceil(first * REFIT)
    return first


@dataclass(frozen=True)
class Lowest:
    """An error below the lowest is sought, at any price."""

    error: float

    def at(self, places: Sequence[int], mean: Floats, variance: Floats) -> Floats:
        """Log of the expected improvement by trials that have begun."""
        return log_improvement(mean, variance, self.error)

    def new(self, x: Floats, mean: Floats, variance: Floats) -> Floats:
        """By new ones at rows x (n, columns)."""
        return log_improvement(mean, variance, self.error)


@dataclass(frozen=True)
class Cheapest:
    """An error below the lowest at its price is sought."""

    front: Front
    known: Floats  # prices of the trials that have begun
    models: Sequence[Process]  # of each price
    weights: Floats

    def at(self, places: Sequence[int], mean: Floats, variance: Floats) -> Floats:
        """Log of the expected improvement by trials that have begun."""
        return self.front.log_improvement(mean, variance, self.known[list(places)])

    def new(self, x: Floats, mean: Floats, variance: Floats) -> Floats:
        """By new ones at rows x (n, columns)."""
        prices = np.stack([model.predict(x)[0] for model in self.models], 1)
        return self.front.log_improvement(mean, variance, prices @ self.weights)


def _log_price(record: TrialRecord, price: Objective) -> float:
    value = record.objective(price) or 1.0
    if price is Objective.SECONDS:
        return math.log(value / record.epochs)
    return -math.log(value) if price is Objective.IMAGES_PER_S else math.log(value)


@dataclass(frozen=True)
class Begin:
    """The step is a new trial of this configuration."""

    chosen: dict[str, Value]


@dataclass(frozen=True)
class Rest:
    """There is no step: no trial may begin, and none may go on."""


@dataclass
class FreezeThaw:
    """Chooses the next step from the records and the seed alone.

    Args:
        space: what is searched.
        rungs: epochs at which trials are compared, the last epoch of a trial included.
        seed: of the search.
        prices: the objectives beside the error. Each decision draws new weights for them, as ParEGO does
            (doi:10.1109/TEVC.2005.851274); the error has no weight.
    """

    space: Space
    rungs: tuple[int, ...]
    seed: int
    prices: Sequence[Objective] = ()
    _axes: Axes = field(init=False)
    _known: dict[int, Floats] = field(default_factory=dict, init=False)  # rows of trials by number
    _curves: dict[int, tuple[tuple[int, TrialState], Floats]] = field(default_factory=dict, init=False)
    _scales: tuple[tuple[int, ...], Scales] | None = field(default=None, init=False)  # of which trials
    _limits: tuple[int, Scales] | None = field(default=None, init=False)  # of how many beyond them
    _priced: tuple[tuple[int, ...], list[Scales]] | None = field(default=None, init=False)  # as `_scales`

    def __post_init__(self) -> None:
        self._axes = Axes(self.space)

    @_ONE_THREAD
    def step(
        self, standings: Standings, waiting: Collection[int], fresh: Callable[[Mapping[str, Value]], bool] | None
    ) -> int | Begin | Rest | None:
        """The number of a waiting trial, or a new one; None where the model has nothing to say.

        Args:
            standings: all trials.
            waiting: numbers of those that may go on.
            fresh: whether a configuration has not been tried; None where no trial may begin.
        """
        seen = [r for r in standings if not r.beyond and (r.epochs >= self.rungs[0] or self._lost(r))]
        seen = [record for record in seen if self._at(record) is not None]
        if len(seen) < STARTUP:
            return None
        rng = np.random.default_rng(self._seed(standings))
        if fresh and rng.random() < EXPLORED:
            drawn = map(self._axes.chosen, self._axes.draw(rng, RANDOM))
            return next((Begin(chosen) for chosen in drawn if fresh(chosen)), None)
        x = self._axes.columns(self._rows(seen))
        errors = np.array([self._errors(record) for record in seen])
        forecast = Forecast.of(self._fitted(seen, x, errors), self._axes.owner, x, errors)
        mean, variance = forecast.begun(x)
        able = [place for place, record in enumerate(seen) if record.number in waiting]
        left = np.array([self.rungs[-1] - seen[place].epochs for place in able])
        sought = self._sought(seen, x, forecast, rng)
        values = sought.at(able, mean[able], variance[able] + MARGIN) - np.log(left)
        best = int(values.argmax()) if able else None
        if fresh:
            for value, row in self._new(standings, forecast, sought, [seen[k] for k in np.argsort(mean)[:BEST]], rng):
                if best is not None and values[best] > value:
                    break
                chosen = self._axes.chosen(row)
                if fresh(chosen):
                    return Begin(chosen)
        if best is not None:
            return seen[able[best]].number
        return None if fresh else Rest()

    def _sought(
        self, seen: Sequence[TrialRecord], x: Floats, forecast: Forecast, rng: np.random.Generator
    ) -> "Lowest | Cheapest":
        if not self.prices:
            return Lowest(forecast.lowest)
        prices = np.array([[_log_price(record, price) for price in self.prices] for record in seen])
        prices = (prices - prices.mean(0)) / (prices.std(0) + 1e-9)
        weights = rng.dirichlet(np.ones(len(self.prices)))
        scales = self._of_prices(seen, x, prices)
        some = np.linspace(0, len(x) - 1, min(len(x), MOST)).astype(int)
        models = [Process(self._axes.owner, one, x[some], prices[some, k]) for k, one in enumerate(scales)]
        lowest = np.nanmin(forecast.seen, 1)
        return Cheapest(Front.of(prices @ weights, lowest), prices @ weights, models, weights)

    def _new(
        self,
        standings: Standings,
        forecast: Forecast,
        sought: "Lowest | Cheapest",
        best: Sequence[TrialRecord],
        rng: np.random.Generator,
    ) -> Iterator[tuple[float, Floats]]:
        """Rows of new configurations, the most promising first, with the log of their improvement for each epoch."""
        begun = [r for r in standings if r.running and r.epochs < self.rungs[0] and self._at(r) is not None]
        process = forecast.process
        if begun:
            process = process.believing(self._axes.columns(self._rows(begun)))
        within = self._within(standings)

        def worth(rows: Floats) -> Floats:
            x = self._axes.columns(rows)
            value = sought.new(x, *forecast.new(x, process)) - math.log(self.rungs[-1])
            return value if within is None else value + within.log_probability(x)

        around = self._rows(best)[rng.integers(len(best), size=NEAR)]
        spread = np.exp(rng.uniform(math.log(SPREADS[0]), math.log(SPREADS[1]), NEAR))
        rows = np.vstack([self._axes.draw(rng, RANDOM), self._axes.near(around, spread, rng)])
        values = worth(rows)
        for count, fine in REFINED:
            top = np.repeat(rows[[values.argmax()]], count, 0)
            more = self._axes.near(top, np.full(count, fine), rng)
            rows, values = np.vstack([rows, more]), np.r_[values, worth(more)]
        for at in np.argsort(-values, kind="stable"):
            yield float(values[at]), rows[at]

    def _within(self, standings: Standings) -> Process | None:
        """A model of which configurations are within the limits, of those that were not and as many others."""
        able = [record for record in standings if self._at(record) is not None]
        beyond = [record for record in able if record.beyond][-REFUSED:]
        if not beyond:
            return None
        others = [record for record in able if not record.beyond][-REFUSED:]
        x = self._axes.columns(self._rows([*beyond, *others]))
        y = np.repeat([-1.0, 1.0], [len(beyond), len(others)])
        count = _seldom(len(beyond))
        if self._limits is None or self._limits[0] != count:
            self._limits = count, Scales.fitted(self._axes.owner, x, y)
        return Process(self._axes.owner, self._limits[1], x, y)

    def _rows(self, records: Sequence[TrialRecord]) -> Floats:
        return np.array([self._known[record.number] for record in records])

    def _seed(self, standings: Standings) -> int:
        words = self.seed, len(standings), sum(record.epochs for record in standings)
        return int.from_bytes(hashlib.sha256(repr(words).encode()).digest()[:8], "big")

    @staticmethod
    def _lost(record: TrialRecord) -> bool:
        """Whether it diverged: then it is as bad as the worst at the rung that it did not come to."""
        return record.state is TrialState.DIVERGED

    def _at(self, record: TrialRecord) -> Floats | None:
        """The row of a trial; None where the space does not hold it."""
        if record.number not in self._known:
            chosen = self.space.parameters(record.params)
            if chosen is None:
                return None
            self._known[record.number] = self._axes.row(chosen)
        return self._known[record.number]

    def _errors(self, record: TrialRecord) -> Floats:
        """At the rungs; infinite where it diverged on the way, or where an error is no number."""
        now = record.epochs, record.state
        known = self._curves.get(record.number)
        if known is None or known[0] != now:
            reached = [record.curve[rung] for rung in self.rungs if rung in record.curve]
            row = np.full(len(self.rungs), np.nan)
            row[: len(reached)] = [error if math.isfinite(error) else math.inf for error in reached]
            if self._lost(record):
                row[min(len(reached), len(row) - 1)] = math.inf
            known = self._curves[record.number] = now, row
        return known[1]

    def _of_prices(self, seen: Sequence[TrialRecord], x: Floats, prices: Floats) -> list[Scales]:
        """Scales of a model of each price, fitted as seldom as those of the errors."""
        count = _seldom(len(seen), STARTUP)
        numbers = tuple(record.number for record in seen[:count])
        if self._priced is None or self._priced[0] != numbers:
            some = np.linspace(0, count - 1, min(count, FIT)).astype(int)
            fitted = [Scales.fitted(self._axes.owner, x[some], prices[some, k]) for k in range(len(self.prices))]
            self._priced = numbers, fitted
        return self._priced[1]

    def _fitted(self, seen: Sequence[TrialRecord], x: Floats, errors: Floats) -> Scales:
        """Scales that follow from the first trials, of so many that they are fitted seldom."""
        count = _seldom(len(seen), STARTUP)
        numbers = tuple(record.number for record in seen[:count])
        if self._scales is None or self._scales[0] != numbers:
            z = scaled(errors[:count])[:, 0]
            some = np.argsort(z)[np.linspace(0, count - 1, min(count, FIT)).astype(int)]
            self._scales = numbers, Scales.fitted(self._axes.owner, x[some], z[some])
        return self._scales[1]

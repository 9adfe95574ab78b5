"""What a search is expected to gain if it goes on: by how much its best validation error falls."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, log

from search.formatting import duration, points
from search.records.trial import TrialRecord, TrialState

HOUR = 3600.0
FEWEST = 5  # complete trials; fewer say nothing


@dataclass(frozen=True)
class Gain:
    """What more time is expected to bring; how well that holds: docs/decisions/0013-the-gain-of-another-hour.md."""

    seconds: float  # that the search goes on
    points: float  # by which the best validation error falls on average
    tenth: float  # points that at most one search in ten exceeds

    def __str__(self) -> str:
        """`another hour is expected to bring 0.31 points (one in ten: more than 0.90)`."""
        time = "hour" if self.seconds == HOUR else duration(self.seconds)
        return f"another {time} is expected to bring {points(self.points)} points ({self._bound})"

    @property
    def _bound(self) -> str:
        return f"one in ten: more than {points(self.tenth)}" if self.tenth else "nine in ten: none"


def expected_gain(trials: Iterable[TrialRecord], elapsed: float, ahead: float = HOUR) -> Gain | None:
    """What the next seconds bring: so many as are `ahead`, but no more than have `elapsed`.

    They are a part p of all seconds then. They bring 1 - p of what a random part p of the past has brought, for a
    minimum falls more slowly the longer it is sought. Where a trial that is not complete has a lower error than any
    that is, the difference comes with probability p.

    None for fewer than `FEWEST` complete trials.
    """
    known = [(trial.state, error) for trial in trials if (error := trial.result) is not None]
    complete = sorted(error for state, error in known if state is TrialState.COMPLETE)
    if len(complete) < FEWEST or elapsed <= 0:
        return None
    ahead = min(ahead, elapsed)
    p = ahead / (elapsed + ahead)
    lower = complete[0] - min(error for _, error in known)
    return Gain(ahead, p * lower + (1 - p) * mean_fall(complete, p), lower + tenth(complete, p))


def mean_fall(x: Sequence[float], p: float) -> float:
    """By how much a random part p of the sorted values lowers the minimum of the others, on average.

    Each value is in the part with probability p, so the i lowest are all in it with p^i, and then the others begin at
    x(i+1) or above: the sum of p^i (x(i+1) - x(i)). Where all are in it, the highest stands for the others.
    """
    return sum(p**i * (x[i] - x[i - 1]) for i in range(1, len(x)))


def tenth(x: Sequence[float], p: float) -> float:
    """What this fall exceeds with a probability of at most 1/10: it is above x(i) - x(1) with p^i."""
    return x[min(ceil(log(0.1) / log(p)), len(x)) - 1] - x[0]

"""Errors against costs: what of both is best so far, and what an improvement of it is worth."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from search.optimize.gaussian import Floats, log_improvement

TINY = 1e-300  # in place of zero, under a logarithm
MARGIN = 0.1  # of the range of the costs seen, beyond the dearest: there too an error can be improved


@dataclass(frozen=True)
class Front:
    """The lowest error that a cost can buy: `errors[k]` from `costs[k]` up to the next, `errors[0]` below all."""

    costs: Floats  # (k,) upwards
    errors: Floats  # (k + 1,) falling
    dearest: float

    @classmethod
    def of(cls, costs: Floats, errors: Floats) -> Self:
        """Of trials with these costs and errors (n,)."""
        order = np.lexsort((errors, costs))
        lowest = np.minimum.accumulate(errors[order])
        kept = np.r_[True, np.diff(lowest) < 0]
        dearest = costs.max() + MARGIN * (np.ptp(costs) or 1.0)
        return cls(costs[order][kept], np.r_[errors.max(), lowest[kept]], float(dearest))

    def log_improvement(self, mean: Floats, variance: Floats, cost: Floats) -> Floats:
        """Logarithm of the area that normal errors at these costs (n,) are expected to add below the front.

        Costs are taken for known, so the area is a sum of expected improvements, one for each step of the front, times
        its width (as in arXiv:1903.02838, where both are unsure).
        """
        left = np.maximum(np.minimum(cost, self.costs.max())[:, None], np.r_[-np.inf, self.costs])
        width = np.maximum(np.r_[self.costs, self.dearest] - left, 0.0)
        gain = log_improvement(mean[:, None], variance[:, None], self.errors)
        return np.logaddexp.reduce(gain + np.log(np.maximum(width, TINY)), axis=1)

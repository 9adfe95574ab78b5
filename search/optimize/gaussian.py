"""A Gaussian process with a Matern 5/2 kernel, and what it says of an improvement.

Rasmussen and Williams, Gaussian Processes for Machine Learning (2006): the kernel is equation 4.17, prediction
algorithm 2.1, the fit of its scales section 5.4.1 with priors, so that a handful of points is enough.
"""
# scipy's annotations are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import log_ndtr, ndtr

Floats = NDArray[np.float64]
ROOT5 = math.sqrt(5.0)
STEADY = 1e-8  # added to the diagonal, so that equal points do not make it singular
STEPS = 25  # of the fit
TINY = 1e-300  # in place of zero, under a logarithm
MARGIN = 0.1  # of the range of the costs seen, beyond the dearest: there too an error can be improved


def matern(squared: Floats) -> Floats:
    """The kernel of squared scaled distances."""
    r = ROOT5 * np.sqrt(np.maximum(squared, 1e-12))
    return (1 + r + r * r / 3) * np.exp(-r)


def _squared(a: Floats, b: Floats) -> Floats:
    """Squared distances (len(a), len(b)) of rows."""
    return (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T


@dataclass(frozen=True)
class Scales:
    """What a process takes for known; a length for each dimension, whatever the number of its columns."""

    lengths: Floats
    noise: float  # variances of the noise and of the signal
    signal: float

    @classmethod
    def fitted(cls, owner: NDArray[np.int64], x: Floats, y: Floats) -> Self:
        """The most probable ones for targets y (n,), standardised, at rows x (n, columns).

        Args:
            owner: dimension of each column.
            x: numbers within 0..1.
            y: see above.
        """
        dimensions, n = int(owner.max()) + 1, len(y)
        apart = np.zeros((dimensions, n, n))
        for column, dimension in enumerate(owner):
            apart[dimension] += (x[:, column][:, None] - x[:, column]) ** 2
        flat = apart.reshape(dimensions, -1)
        # Log-normal priors: the more dimensions, the longer (arXiv:2402.02229); little noise; signals of variance one.
        length = math.log(0.5) + 0.25 * math.log(dimensions)
        middle = np.r_[np.full(dimensions, length), math.log(0.003), 0.0]
        spread = np.r_[np.ones(dimensions), 1.5, 1.0]

        def loss(theta: Floats) -> tuple[float, Floats]:
            """Negative log posterior and its gradient."""
            inverse, noise, signal = np.exp(-2 * theta[:-2]), math.exp(theta[-2]), math.exp(theta[-1])
            r = ROOT5 * np.sqrt((inverse @ flat).reshape(n, n) + 1e-12)
            decay = np.exp(-r)
            kernel = (1 + r + r * r / 3) * decay
            try:
                low = cholesky(signal * kernel + (noise + STEADY) * np.eye(n), lower=True, check_finite=False)
            except np.linalg.LinAlgError:  # scales that rounding does not allow: the search turns back
                return 1e10, np.zeros_like(theta)
            solved = cho_solve((low, True), np.column_stack([np.eye(n), y]), check_finite=False)
            weights = solved[:, -1]
            inner = 0.5 * (solved[:, :-1] - np.outer(weights, weights))
            gradient = np.empty_like(theta)
            gradient[:-2] = 2 * inverse * (flat @ (inner * signal * (5 / 6) * (1 + r) * decay).ravel())
            gradient[-2], gradient[-1] = noise * np.trace(inner), signal * (inner * kernel).sum()
            off = (theta - middle) / spread
            value = 0.5 * y @ weights + np.log(np.diag(low)).sum() + 0.5 * off @ off
            return float(value), gradient + off / spread

        bounds = [(length - 3, length + 4)] * dimensions + [(math.log(1e-6), 0.0), (-3.0, 3.0)]
        begin = np.r_[middle[:-2], math.log(0.01), 0.0]
        found = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS})
        theta: Floats = found.x
        return cls(np.exp(theta[:-2]), math.exp(theta[-2]), math.exp(theta[-1]))


@dataclass
class Process:
    """A Gaussian process of mean zero: targets y (n,) at rows x (n, columns)."""

    owner: NDArray[np.int64]  # dimension of each column
    scales: Scales
    x: Floats
    y: Floats
    _low: Floats = field(init=False, repr=False)
    _weights: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        kernel = self.kernel(self.x)
        kernel[np.diag_indices(len(self.y))] += self.scales.noise + STEADY
        self._low = cholesky(kernel, lower=True, check_finite=False)
        self._weights = cho_solve((self._low, True), self.y, check_finite=False)

    def kernel(self, x: Floats, other: Floats | None = None) -> Floats:
        """Covariances of these rows with `other` ones, or with those that are known."""
        lengths = self.scales.lengths[self.owner]
        return self.scales.signal * matern(_squared(x / lengths, (self.x if other is None else other) / lengths))

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        """Means and variances (n,) at these rows, without noise."""
        kernel = self.kernel(x)
        part = solve_triangular(self._low, kernel.T, lower=True, check_finite=False)
        return kernel @ self._weights, np.maximum(self.scales.signal - (part * part).sum(0), 1e-9)

    def log_probability(self, x: Floats) -> Floats:
        """Of a target above 0 at these rows (n,)."""
        mean, variance = self.predict(x)
        return log_ndtr(mean / np.sqrt(variance + self.scales.noise))

    def believing(self, x: Floats) -> "Process":
        """With what it predicts at these rows taken for known: nobody looks twice where somebody looks already."""
        return Process(self.owner, self.scales, np.vstack([self.x, x]), np.r_[self.y, self.predict(x)[0]])


def log_improvement(mean: Floats, variance: Floats, best: float | Floats) -> Floats:
    """Logarithm of the expected improvement below `best`, exact where that is tiny too (arXiv:2310.20708)."""
    deviation = np.sqrt(variance)
    z = (best - mean) / deviation
    near = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) + z * ndtr(z)
    far = -0.5 * z * z - math.log(math.sqrt(2 * math.pi)) - 2 * np.log(np.maximum(-z, 1.0))
    return np.log(deviation) + np.where(z > -5, np.log(np.maximum(near, TINY)), far)


@dataclass(frozen=True)
class Front:
    """The lowest error that a cost can buy: `errors[k]` from `costs[k]` up to the next, `errors[0]` below all."""

    costs: Floats  # (k,) upwards
    errors: Floats  # (k + 1,) falling
    dearest: float  # that was seen; beyond it an error is worth what it is here
    margin: float

    @classmethod
    def of(cls, costs: Floats, errors: Floats) -> Self:
        """Of trials with these costs and errors (n,)."""
        order = np.lexsort((errors, costs))
        lowest = np.minimum.accumulate(errors[order])
        kept = np.r_[True, np.diff(lowest) < 0]
        margin = MARGIN * float(np.ptp(costs) or 1.0)
        return cls(costs[order][kept], np.r_[errors.max(), lowest[kept]], float(costs.max()), margin)

    def log_improvement(self, mean: Floats, variance: Floats, cost: Floats) -> Floats:
        """Logarithm of the area that normal errors at these costs (n,) are expected to add below the front.

        Costs are taken for known, so the area is a sum of expected improvements, one for each step of the front, times
        its width (as in arXiv:1903.02838, where both are unsure).
        """
        left = np.maximum(np.minimum(cost, self.dearest)[:, None], np.r_[-np.inf, self.costs])
        width = np.maximum(np.r_[self.costs, self.dearest + self.margin] - left, 0.0)
        gain = log_improvement(mean[:, None], variance[:, None], self.errors)
        return np.logaddexp.reduce(gain + np.log(np.maximum(width, TINY)), axis=1)

"""Conformalised quantile regression (arXiv:2305.03623) as a rival: who proposes, while ASHA says who goes on.

As in the paper, section 4.3, each trial counts by its last error, after however many epochs. Quantiles are gradient
boosted trees'; a fifth of the trials says how far to widen them; a candidate's error is one of them, drawn at random.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor

from search.optimize.axes import Axes
from search.optimize.freeze_thaw import Begin
from search.optimize.gaussian import Floats
from search.records import Standings, TrialRecord
from search.spec import Space, Value

STARTUP, CANDIDATES, HELD_OUT = 10, 200, 0.2
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass
class Conformal:
    """Takes the place of the model in a strategy."""

    space: Space
    axes: Axes
    seed: int

    def step(
        self, standings: Standings, waiting: Collection[int], fresh: Callable[[Mapping[str, Value]], bool] | None
    ) -> Begin | None:
        """A new trial; None where ASHA decides, or where there are too few trials."""
        seen = [record for record in standings if record.curve]
        if waiting or fresh is None or len(seen) < STARTUP:
            return None
        draw = np.random.default_rng((self.seed, len(standings), sum(record.epochs for record in seen)))
        x = self.axes.columns(np.stack([self.axes.row(self.space.parameters(r.params) or {}) for r in seen]))
        rows = self.axes.draw(draw, CANDIDATES)
        quantiles = self._quantiles(x, np.array([_last(record) for record in seen]), self.axes.columns(rows), draw)
        drawn = quantiles[np.arange(len(rows)), draw.integers(len(LEVELS), size=len(rows))]
        ordered = (self.axes.chosen(rows[place]) for place in np.argsort(drawn))
        return next((Begin(chosen) for chosen in ordered if fresh(chosen)), None)

    @staticmethod
    def _quantiles(x: Floats, y: Floats, at: Floats, draw: np.random.Generator) -> Floats:
        order = draw.permutation(len(x))
        held = order[: max(2, int(HELD_OUT * len(x)))]
        kept = order[len(held) :]
        found: list[Floats] = []
        for level in LEVELS:
            trees = GradientBoostingRegressor(loss="quantile", alpha=level, n_estimators=50, random_state=0)
            trees.fit(x[kept], y[kept])
            residuals = y[held] - trees.predict(x[held])
            found.append(trees.predict(at) + np.quantile(residuals, level))
        return np.stack(found, 1)


def _last(record: TrialRecord) -> float:
    return record.curve[max(record.curve)]

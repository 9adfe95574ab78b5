"""Who proposes the next trial where no model does: from the starts, the seed and the trial's number alone."""

import hashlib
import random
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property

import optuna
from optuna.samplers import RandomSampler

from search.errors import InputError
from search.records import Start
from search.spec import Sampler, SearchSpec, Space, Value

TRIES = 20  # proposals that repeat a configuration before the rest is enumerated
ENUMERATED = 100_000  # configurations; spaces with more are called infinite


def _seed(*words: object) -> int:
    """31 bits that follow from these words."""
    digest = hashlib.sha256(",".join(map(str, words)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


@dataclass
class Proposer:
    """Proposes the `starts`, then what is drawn at random or is left of a grid; in a finite space none twice."""

    space: Space
    kind: Sampler
    seed: int
    starts: Sequence[Start] = ()
    _rest: Iterator[dict[str, Value]] | None = field(default=None, init=False)

    @classmethod
    def of(cls, search: SearchSpec, space: Space, starts: Sequence[Start]) -> "Proposer":
        """As a study asks for it.

        Raises:
            InputError: the sampler is not for this space.
        """
        return cls(space, search.sampler, search.seed, starts)

    def __post_init__(self) -> None:
        if self.kind is Sampler.GRID and not self.finite:
            endless = [d.path for d in self.space.dimensions if d.values is None]
            cause = f"it has more than {ENUMERATED:,} configurations; remove some choices"
            if endless:
                cause = f"{endless[0]} is a continuum; give it choices, or a step"
            raise InputError(f"search.sampler = grid cannot exhaust this space: {cause} (or use another sampler)")

    @cached_property
    def finite(self) -> bool:
        """Whether the space has so few configurations that none need be tried twice."""
        return (
            all(d.values is not None for d in self.space.dimensions) and self.space.size(ENUMERATED + 1) <= ENUMERATED
        )

    @property
    def example(self) -> dict[str, Value] | None:
        """What it would propose first; None where the space holds nothing."""
        return self.propose(0, frozenset())

    def propose(self, number: int, taken: Set[str]) -> dict[str, Value] | None:
        """A configuration for trial `number` whose key is not among `taken`; None when the space is exhausted."""
        if (start := self.start(taken)) is not None:
            return start
        if self.kind is Sampler.GRID:
            return self._untried(taken)
        for attempt in range(TRIES if self.finite else 1):
            chosen = self._draw(number, attempt)
            if not self.finite or self.space.key(chosen) not in taken:
                return chosen
        return self._untried(taken)

    def start(self, taken: Set[str]) -> dict[str, Value] | None:
        """The first of the starts whose key is not among `taken`."""
        return next((start.chosen for start in self.starts if self.space.key(start.chosen) not in taken), None)

    def _untried(self, taken: Set[str]) -> dict[str, Value] | None:
        # What is taken stays taken, so the search through the rest goes on where it stopped.
        if self._rest is None:
            every = list(self.space.combinations(values=True))
            random.Random(self.seed).shuffle(every)  # so that a part of the grid is a fair sample of it
            self._rest = iter(every)
        return next((chosen for chosen in self._rest if self.space.key(chosen) not in taken), None)

    def _draw(self, number: int, attempt: int) -> dict[str, Value]:
        seed = _seed(self.seed, number, attempt) if attempt else _seed(self.seed, number)
        trial = optuna.create_study(sampler=RandomSampler(seed=seed)).ask()
        return self.space.draw(lambda dimension: dimension.suggest(trial))

"""Differences of test error between finalists that are alike in all else but one parameter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from search import report_facts as facts
from search import report_finals as finals_of
from search import report_words as words
from search.records import Finalist, Finals
from search.statistics import Difference, difference


@dataclass(frozen=True)
class Contrast:
    """Mean test error of `one` less that of `other`, in points; only `path`, and what follows from it, parts them."""

    path: str
    one: Finalist
    other: Finalist
    value: Any  # of `one`
    reference: Any  # of `other`
    difference: Difference

    @property
    def seeds(self) -> tuple[int, int]:
        """Trainings of either."""
        return len(self.one.tested), len(self.other.tested)


def contrasts(finals: Finals) -> list[Contrast]:
    """All such pairs whose one side has the value that the champion has, or the first finalist where there is none.

    A parameter that one of them lacks follows from the one that parts them, such as the bias of a gate. The interval of
    the difference is Welch's, of level `Finals.level`, over seeds.
    """
    order = [s.finalist for s in finals_of.standings(finals) if len(s.errors) > 1]
    if not order:
        return []
    found: list[Contrast] = []
    for path in _paths(order):
        reference = order[0].params.get(path)
        others = [f for f in order if f.params.get(path) == reference]
        for one in sorted(order, key=lambda f: facts.sort_key(f.params.get(path))):
            if one.params.get(path) == reference or reference is None:
                continue
            for other in others:
                seen = difference(one.tested, other.tested, finals.level, 100 / finals.tested_on)
                if seen is not None and _parts(one, other) == [path]:
                    found.append(Contrast(path, one, other, one.params.get(path), reference, seen))
    return found


def _paths(order: Sequence[Finalist]) -> list[str]:
    """Parameters that differ, those that a study asks about first."""
    every = {path for finalist in order for path in finalist.params}
    return [*(path for path in words.ASKED if path in every), *sorted(every - set(words.ASKED))]


def _parts(one: Finalist, other: Finalist) -> list[str]:
    """Parameters in which both have a value, and not the same."""
    return [path for path in one.params.keys() & other.params.keys() if one.params[path] != other.params[path]]

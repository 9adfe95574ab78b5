"""The best configurations of another study, for a new one to begin with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from search.errors import InputError
from search.formatting import plural
from search.optimize.samplers import nearest
from search.records import Trials, TrialState
from search.spec import Appraisal, Former, Space, TrialSpec, Value


@dataclass(frozen=True)
class FormerBest:
    """What an entry `{study: NAME, best: N}` of `start:` stands for."""

    study: str
    starts: tuple[dict[str, Value], ...]  # best first, all different
    left_out: int  # better ones among them that the new space or its limits do not hold

    def __str__(self) -> str:
        tried = f"{plural(len(self.starts), 'configuration')} of study {self.study!r}, its best, tried first"
        out = f"; {plural(self.left_out, 'better one')} left out, beyond the space or its limits"
        return tried + (out if self.left_out else "")


def best_of_former(
    asked: Former, trials: Trials, space: Space, appraise: Callable[[TrialSpec], Appraisal]
) -> FormerBest:
    """The best complete trials of a former study that the new one holds.

    By the names of what is searched: a value that was searched or fixed there has to be in the new space, one that had
    no effect there is the default or what is nearest to it. What the new study fixes is as it says.

    Args:
        asked: the entry.
        trials: of the study that it names.
        space: of the new study.
        appraise: what a trial of the new study would cost, and whether it is within its limits.

    Raises:
        InputError: there is none.
    """
    complete = [trial for trial in trials.ranked() if trial.state is TrialState.COMPLETE]
    found: dict[str, dict[str, Value]] = {}
    left_out = 0
    for trial in complete:
        if len(found) == asked.best:
            break
        start = nearest(space, trial.params)
        if not _holds(space, start, trial.params) or appraise(space.specify(start)).reason:
            left_out += 1
        else:
            found.setdefault(space.key(start), start)
    if not complete:
        raise InputError(f"start: study {asked.study!r} has no complete trial; run it to its end, or leave start out")
    if not found:
        raise InputError(
            f"start: study {asked.study!r} has {plural(left_out, 'complete trial')}, and none within this space and "
            "its limits; widen them, or leave start out"
        )
    return FormerBest(asked.study, tuple(found.values()), left_out)


def _holds(space: Space, start: Mapping[str, Value], params: Mapping[str, Value]) -> bool:
    searched = (d for d in space.dimensions if d.path in start and d.path in params)
    return all(dimension.holds(params[dimension.path]) for dimension in searched)

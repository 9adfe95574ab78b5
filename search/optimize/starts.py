"""What a study begins with: what is known from other data, networks by name, values by path, another study's best."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from resnet import list_models, named
from resnet.names import OF_DATA
from search.errors import InputError, hint
from search.formatting import plural
from search.optimize.portfolio import Known, batch_size, nearest, portfolio
from search.records import Start, Trials, TrialState
from search.spec import AUTO, Appraisal, Former, Recipe, Space, StudySpec, TrainSpec, TrialSpec, Value

MOST = 8  # configurations that `start: auto` stands for
SHARE = 3  # but at most one trial in so many
RECIPE = {"net.version": "v2", "net.shortcut": "identity"}  # arXiv:1603.05027, trained as TrainSpec's defaults say
FINE_TUNED = {"net.version": "v1", "net.shortcut": "identity", "train.lr": 0.01, "train.weight_decay": 1e-4}
"""Of a pretrained network by SGD, inside the grids of arXiv:1805.08974, appendix A.5."""
Appraise = Callable[[TrialSpec], Appraisal]


def tried_first(
    spec: StudySpec, space: Space, appraise: Appraise, former: Sequence["FormerBest"] = ()
) -> tuple[Start, ...]:
    """What the entries of `start:` stand for, in their order.

    `auto` stands for the recipe of the papers and what is known from other data; a name for the published network,
    trained by the defaults, or for the published recipe; each where the space has it, else by what is nearest. What
    another study leaves is known only once its records are read: see `best_of_former`; several of them take turns.

    Args:
        spec: of the study.
        space: of the study.
        appraise: what a trial would cost, and whether it is within the limits.
        former: the best of other studies, as far as they are known.

    Raises:
        InputError: naming the entry that the space or its limits do not hold, and why.
    """
    found: list[Start] = []
    for entry in spec.start:
        if entry == AUTO:
            found += _known(spec, space, appraise)
        elif not isinstance(entry, Former):
            found.append(_given(entry, space, appraise))
        elif entry == spec.formers[0]:
            found += _in_turns(former)
    return tuple(found)


def _known(spec: StudySpec, space: Space, appraise: Appraise) -> Iterator[Start]:
    def able(chosen: Mapping[str, Value]) -> bool:
        return appraise(space.specify(chosen)).reason is None

    weights = [
        value for d in space.dimensions if d.path == "train.start" for value in d.extremes if value != TrainSpec.SCRATCH
    ]
    first = [Start(nearest(space, FINE_TUNED | {"train.start": value}), "fine-tuning") for value in weights]
    first.append(Start(nearest(space, RECIPE), "the papers' recipe"))
    first = [start for start in first if able(start.chosen)]
    known = {space.key(start.chosen) for start in first}
    most = min(MOST, spec.search.trials // SHARE)
    others = (one for one in portfolio(Known.shipped(), space, most + 1, able) if space.key(one) not in known)
    yield from [*first, *(Start(chosen, "good on other data") for chosen in others)][:most]


def _in_turns(former: Sequence["FormerBest"]) -> Iterator[Start]:
    """The best of each study, then the second of each, and so on."""
    for row in zip_longest(*(one.starts for one in former)):
        yield from [Start(chosen, f"study {one.study}") for one, chosen in zip(former, row, strict=True) if chosen]


def _given(entry: str | Mapping[str, Any], space: Space, appraise: Appraise) -> Start:
    chosen = _start(entry, space)
    if reason := appraise(space.specify(chosen)).reason:
        raise InputError(f"start: {entry} is beyond the limits ({reason}); raise them, or leave the start out")
    return Start(chosen, entry if isinstance(entry, str) else "given")


def _start(entry: str | Mapping[str, Any], space: Space) -> dict[str, Value]:
    name = f"start: {entry if isinstance(entry, str) else dict(entry)}"
    wanted = _named(entry, space) if isinstance(entry, str) else entry
    lacking: dict[str, tuple[Value, Value]] = {}  # path -> (wanted, fixed)
    for path, value in wanted.items():
        if path not in TrialSpec.paths():
            raise InputError(f"{name}: {path} is not a field; {hint(path, TrialSpec.paths())}")
        fixed = space.fixed.get(path, TrialSpec.default(path, space.fixed))
        if path not in space.searched and value != fixed:
            lacking[path] = value, fixed
    if lacking:
        needed = ", ".join(f"{path} = {value}" for path, (value, _) in lacking.items())
        has = ", ".join(str(fixed) for _, fixed in lacking.values())
        one = next(iter(lacking)) if len(lacking) == 1 else "or set these"
        raise InputError(f"{name} needs {needed}, but the study has {has}; search {one}, or leave it out")
    chosen = nearest(space, wanted)
    for dimension in space.dimensions:
        path = dimension.path
        if path in wanted and chosen.get(path, TrialSpec.default(path, chosen)) != wanted[path]:
            raise InputError(
                f"{name} needs {path} = {wanted[path]}, but space.{path} is {dimension.describe()}; widen it, or leave "
                "the start out"
            )
    return chosen


def _named(name: str, space: Space) -> dict[str, Value]:
    if name in Recipe.names():
        recipe = Recipe.of(name)
        batch = batch_size(space, recipe.figure.train.batch_size)
        return {"train.batch_size": batch} | recipe.values(batch)
    if name not in list_models():
        known = [*list_models(), *Recipe.names()]
        raise InputError(f"start: {name!r} is neither a published network nor a recipe; {hint(name, known)}")
    flat = TrialSpec(net=named(name)).flat()
    of_data = {f"net.{field}" for field in OF_DATA}
    return {path: value for path, value in flat.items() if path.startswith("net.") and path not in of_data}


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

    def holds(start: Mapping[str, Value], params: Mapping[str, Value]) -> bool:
        searched = (d for d in space.dimensions if d.path in start and d.path in params)
        return all(dimension.holds(params[dimension.path]) for dimension in searched)

    complete = [trial for trial in trials.ranked() if trial.state is TrialState.COMPLETE]
    found: dict[str, dict[str, Value]] = {}
    left_out = 0
    for trial in complete:
        if len(found) == asked.best:
            break
        start = nearest(space, trial.params)
        if not holds(start, trial.params) or appraise(space.specify(start)).reason:
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

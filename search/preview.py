"""What a study would do, without doing it: for `--dry-run`."""

from collections.abc import Iterator
from functools import partial

import optuna
from rich.console import Console

from resnet import cost
from resnet.spec import NetSpec
from search.data_spec import DataInfo
from search.ledger import make_sampler
from search.space import Space
from search.spec import TrialSpec
from search.study_spec import StudySpec

GROWING = ("net.depth", "net.width")  # more of these is more parameters and more work, so only the ends are built
COUNTED = 100_000  # configurations; larger spaces are called larger


def show(console: Console, spec: StudySpec, space: Space, info: DataInfo) -> None:
    """Prints the resolved study, the size of its space, its smallest and largest network and one example trial."""
    out = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    out(spec.to_yaml())
    out(f"space: {size(space)}")
    for dimension in space.dimensions:
        out(f"  {dimension.path}: {dimension.describe()}")
    priced = sorted(
        ((cost(net, info.shape[:2]), net) for net in set(extremes(space))),
        key=lambda pair: (pair[0].params, pair[0].macs),
    )
    for word, (price, net) in (("smallest", priced[0]), ("largest", priced[-1])):
        words = (
            f"depth {net.depth}, unit {net.unit}, version {net.version}, shortcut {net.shortcut}, width {net.width:g}"
        )
        out(f"{word} network: {price.params:,} parameters, {price.macs:,} MACs an image ({words})")
    out("example trial:")
    for path, value in example(spec, space).flat().items():
        out(f"  {path}: {value}")


def size(space: Space) -> str:
    """How many configurations there are, in words."""
    finite = space.size(COUNTED)
    counted = f"{'at least ' if finite >= COUNTED else ''}{finite:,} combination{'s' if finite != 1 else ''} of choices"
    ranges = [d.path for d in space.dimensions if d.values is None]
    return f"{counted}, times the continuous {' and '.join(ranges)}" if ranges else counted


def example(spec: StudySpec, space: Space) -> TrialSpec:
    """The first trial that the study would propose."""
    study = optuna.create_study(sampler=make_sampler(spec.search.sampler, spec.search.seed, 0))
    return space.suggest(study.ask())


def extremes(space: Space) -> Iterator[NetSpec]:
    """Networks among which the smallest and the largest are."""
    nets = Space(tuple(d for d in space.dimensions if d.path.startswith("net.")), space.fixed)
    for chosen in nets.combinations(values=False):
        if all(chosen[d.path] in _ends(d.extremes) for d in space.dimensions if d.path in GROWING and d.path in chosen):
            yield TrialSpec.from_flat(chosen).net


def _ends(values: tuple[object, ...]) -> tuple[object, object]:
    numbers = [v for v in values if isinstance(v, int | float)]
    return min(numbers), max(numbers)

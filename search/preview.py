"""What a study would do, without doing it: for `--dry-run`."""

from functools import partial

from rich.console import Console

from search import preflight, preview_compare
from search.data_spec import DataInfo
from search.errors import InputError
from search.estimate import estimate
from search.evidence import Evidence
from search.samplers import Proposer
from search.space import Space
from search.spec import TrialSpec
from search.study_sections import LimitSpec
from search.study_spec import StudySpec

COUNTED = 100_000  # configurations; larger spaces are called larger


def show(console: Console, spec: StudySpec, space: Space, info: DataInfo, proposer: Proposer) -> None:
    """Prints the resolved study, the size of its space, its smallest and largest network and its first trial.

    Of a study that compares: its rows, and what their trainings will cost.
    """
    out = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    out(spec.to_yaml())
    if spec.compare:
        preview_compare.show(out, spec, info)
        return
    out(f"space: {size(space)}")
    for dimension in space.dimensions:
        out(f"  {dimension.path}: {dimension.describe()}")
    for word, (price, net) in zip(
        ("smallest", "largest"), preflight.smallest_and_largest(space, info.shape[:2]), strict=True
    ):
        words = (
            f"depth {net.depth}, unit {net.unit}, version {net.version}, shortcut {net.shortcut}, width {net.width:g}"
        )
        out(f"{word} network: {price.params:,} parameters, {price.macs:,} MACs an image ({words})")
    if spec.limits != LimitSpec():
        out(f"within the limits: {feasible(spec, space, info)}")
    out(str(estimate(spec, space, info)))
    for place, start in enumerate(proposer.starts, start=1):
        searched = ", ".join(f"{d.path} {start[d.path]}" for d in space.dimensions if d.path in start)
        out(f"start {place}: {searched}")
    out("example trial:")
    for path, value in example(space, proposer).flat().items():
        out(f"  {path}: {value}")


def size(space: Space) -> str:
    """How many configurations there are, in words."""
    finite = space.size(COUNTED)
    counted = f"{'at least ' if finite >= COUNTED else ''}{finite:,} combination{'s' if finite != 1 else ''} of choices"
    ranges = [d.path for d in space.dimensions if d.values is None]
    return f"{counted}, times the continuous {' and '.join(ranges)}" if ranges else counted


def feasible(spec: StudySpec, space: Space, info: DataInfo) -> str:
    """How many of the space's networks are within the limits, in words."""
    counted = preflight.within(spec, space, info.shape[:2])
    return f"{counted.able} of {counted.all} networks" if counted else "not counted, for there are too many networks"


def example(space: Space, proposer: Proposer) -> TrialSpec:
    """The first trial that the study would propose."""
    chosen = proposer.propose(0, Evidence((), (), ()), set())
    if chosen is None:
        raise InputError("space holds no configuration; give it choices")
    return space.specify(chosen)

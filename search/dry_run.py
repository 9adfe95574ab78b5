"""`--dry-run`: the size, the cost and the time of a study, before anything is trained.

It is an estimate: every network of the space is taken to lie between its smallest and its largest, validation to take a
third of the work of training an image, and the machine to be as busy as it is now.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from rich.console import Console

from resnet import cost
from resnet.costs import Cost
from resnet.spec import NetSpec
from search import study
from search.errors import InputError
from search.formatting import magnitude, plural
from search.optimize import Proposer, make_scheduler
from search.spec import (
    Configuration,
    DataInfo,
    Figure,
    LimitSpec,
    Space,
    StudySpec,
    TrainSpec,
    TrialSpec,
)
from search.training import images_per_s, noise

STEP_MACS = 2e8  # forward, of one timed step on cores: tens of milliseconds
STEPS = {"cpu": 2, "cuda": 30}  # of an epoch that is timed


@dataclass(frozen=True)
class Timed:
    """How fast one network trains."""

    images_per_s: float
    scaled_from: int | None  # side of the smaller images that were timed, where the real ones would take too long


@dataclass(frozen=True)
class Estimate:
    """Device-hours of a study. Ranges are of a study of its fastest networks alone and one of its slowest alone."""

    device: str  # in words
    unit: str  # GPU or core
    epochs: int  # of all trials when none is stopped
    fewer: float  # epochs when the scheduler stops as many as it can
    hours: tuple[float, float]  # of all epochs
    timed: tuple[Timed, ...]  # the smallest network and the largest
    scheduler: str

    def __str__(self) -> str:
        low, high = self.hours
        text = f"estimate: {_range(low, high)} {self.unit}-hours for {self.epochs:,} epochs, if no trial is stopped"
        if self.fewer < self.epochs:
            part = self.fewer / self.epochs
            text += f"; {_range(low * part, high * part)} where {self.scheduler} stops all that it can"
        small, large = self.timed
        scaled = sorted({t.scaled_from for t in self.timed if t.scaled_from})
        how = f" (by MACs, from images of {scaled[0]} pixels)" if scaled else ""
        return (
            f"{text} (measured now on {self.device}: the smallest network trains at {small.images_per_s:,.0f} "
            f"images/s, the largest at {large.images_per_s:,.0f}{how}; another device has another speed)"
        )


def estimate(spec: StudySpec, space: Space, info: DataInfo) -> Estimate:
    """Times the smallest and the largest network of `space`."""
    batch = int(space.fixed.get("train.batch_size", TrainSpec().batch_size))
    small, large = ((net, batch) for _, net in smallest_and_largest(space, info.shape[:2]))
    return reckoned(spec, info, *speeds(spec, info.shape, small, large))


def speeds(
    spec: StudySpec, shape: tuple[int, int, int], *networks: tuple[NetSpec, int]
) -> tuple[tuple[Timed, ...], str | None]:
    """Times networks in batches of these sizes here, for a second or two; with the name of the GPU, if there is one."""
    gpu = torch.cuda.is_available() and spec.resources.gpus_per_trial != 0
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, int(spec.resources.cpus_per_trial)))
    try:
        found = tuple(timed(net, shape, batch, torch.device("cuda" if gpu else "cpu")) for net, batch in networks)
    finally:
        torch.set_num_threads(before)
    return found, torch.cuda.get_device_name() if gpu else None


def reckoned(spec: StudySpec, info: DataInfo, speeds: tuple[Timed, ...], card: str | None) -> Estimate:
    """The estimate that follows from the speeds on a GPU of this name, or on a trial's cores."""
    cores = spec.resources.cpus_per_trial
    epochs = spec.search.trials * spec.epochs
    images = epochs * (info.n_train + info.n_validation / 3)
    low, high = sorted(images / speed.images_per_s / 3600 * (1 if card else cores) for speed in speeds)
    return Estimate(
        device=card or ("one core of this machine" if cores <= 1 else f"{cores:g} cores of this machine"),
        unit="GPU" if card else "core",
        epochs=epochs,
        fewer=make_scheduler(spec.search, spec.epochs).fewest_epochs(spec.search.trials),
        hours=(low, high),
        timed=speeds,
        scheduler=spec.search.scheduler.value,
    )


def timed(net: NetSpec, shape: tuple[int, int, int], batch: int, where: torch.device) -> Timed:
    """Speed of training on noise, by the code of a trial; on cores in small batches, if need be on small images."""
    height, width, channels = shape
    whole, steps = cost(net, (height, width)).macs, STEPS[where.type]
    if where.type == "cpu":
        while 2 * cost(net, (height, width)).macs > STEP_MACS and _survives(net, height // 2, width // 2):
            height, width = height // 2, width // 2
        batch = max(2, min(batch, int(STEP_MACS / cost(net, (height, width)).macs)))
    trial = TrialSpec(net=net, train=TrainSpec(batch_size=batch))
    rate = images_per_s(trial, noise(trial, (height, width, channels), where, steps))
    scaled = (height, width) != shape[:2]
    return Timed(rate * cost(net, (height, width)).macs / whole, min(height, width) if scaled else None)


def _survives(net: NetSpec, height: int, width: int) -> bool:
    try:
        net.check_image(height, width)
    except ValueError:
        return False
    return True


def _range(low: float, high: float) -> str:
    short, long = (f"{hours:.2g}" for hours in (low, high))
    return short if short == long else f"{short} to {long}"


def show_comparison(out: Callable[[str], None], spec: StudySpec, info: DataInfo) -> None:
    """Prints the rows with their costs and published figures, how many trainings there are, and how long they take."""
    rows = spec.rows(info.shape, len(info.classes))
    prices = [cost(row.trial.net, info.shape[:2]) for row in rows]
    out(f"rows: {len(rows)}, each against {rows[0].label!r} unless said otherwise")
    for given, row, price in zip(spec.compare, rows, prices, strict=True):
        out(f"  {row.label}: {', '.join(_told(given.set, row, rows[0], price))}")
    if spec.scale is not None:
        out(f"scale: {spec.scale.name or 'changed by hand'}")
        for path, (before, now) in spec.scale.changed.items():
            out(f"  {path}: {now} in place of {before}")
    seeds, more = spec.finals.seeds, spec.finals.max_seeds - spec.finals.seeds
    up_to = f", up to {len(rows) * spec.finals.max_seeds} where rows cannot be told from the best" if more else ""
    out(
        f"trainings: {len(rows) * seeds} ({len(rows)} rows, {seeds} seeds){up_to}, "
        f"each of {plural(spec.epochs, 'epoch')} over "
        f"{info.n_train + info.n_validation:,} images (train and validation) and tested once on {info.n_test:,}"
    )
    out(estimate_comparison(spec, info, rows, prices))


def _told(given: Mapping[str, Any], row: Configuration, first: Configuration, price: Cost) -> list[str]:
    parts = [f"{path} {value}" for path, value in given.items()]
    parts += [f"{magnitude(price.params)} parameters", f"{magnitude(price.macs)} MACs an image"]
    figures = [Figure.of(key) for key in row.published]
    parts += [f"published {one} ({one.statistic}, {one.source.partition(' ')[0]})" for one in figures]
    if row.against not in (None, first.label):
        parts.append(f"against {row.against!r}")
    return parts


def estimate_comparison(spec: StudySpec, info: DataInfo, rows: Sequence[Configuration], prices: Sequence[Cost]) -> str:
    """Times the rows of the fewest and of the most MACs; the others by their MACs.

    Testing an image is taken for a third of the work of training on it.
    """
    order = sorted(range(len(rows)), key=lambda place: prices[place].macs)
    ends = ((rows[place].trial.net, rows[place].trial.train.batch_size) for place in (order[0], order[-1]))
    (small, large), card = speeds(spec, info.shape, *ends)
    images = spec.epochs * (info.n_train + info.n_validation) + info.n_test / 3
    total = spec.finals.seeds * images * sum(seconds_an_image([price.macs for price in prices], small, large))
    hours = total / 3600 * (1 if card else spec.resources.cpus_per_trial)
    shown = f"{hours:.2g}" if hours < 10 else f"{hours:,.0f}"
    return (
        f"estimate: {shown} {'GPU' if card else 'core'}-hours (measured now on {card or 'this machine'}: the smallest "
        f"network trains at {small.images_per_s:,.0f} images/s, the largest at {large.images_per_s:,.0f}; another "
        "device another)"
    )


def seconds_an_image(macs: Sequence[int], small: Timed, large: Timed) -> list[float]:
    """Of training, for each network by its MACs: on the line through the smallest and the largest, which were timed."""
    low, high = min(macs), max(macs)
    fast, slow = 1 / small.images_per_s, 1 / large.images_per_s
    return [fast + (slow - fast) * (one - low) / (high - low) if high > low else fast for one in macs]


COUNTED = 100_000  # configurations; larger spaces are called larger


def show(console: Console, spec: StudySpec) -> None:
    """Prints the resolved study, the size of its space, its smallest and largest network and its first trial.

    Of a study that compares: its rows, and what their trainings will cost.
    """
    info, space, proposer = study.planned(spec)
    out = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    out(spec.to_yaml())
    if spec.compare:
        show_comparison(out, spec, info)
        return
    out(f"space: {size(space)}")
    for dimension in space.dimensions:
        out(f"  {dimension.path}: {dimension.describe()}")
    for word, (price, net) in zip(("smallest", "largest"), smallest_and_largest(space, info.shape[:2]), strict=True):
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
    for former in spec.formers:
        out(f"start: the best {former.best} of study {former.study!r} that the space and its limits hold")
    out("example trial:")
    for path, value in example(space, proposer).flat().items():
        out(f"  {path}: {value}")


def smallest_and_largest(space: Space, image: tuple[int, int]) -> list[tuple[Cost, NetSpec]]:
    """The networks of the fewest and of the most parameters, with their costs."""
    priced = [(cost(net, image), net) for net in set(space.extremes())]
    priced.sort(key=lambda pair: (pair[0].params, pair[0].macs))
    return [priced[0], priced[-1]]


def size(space: Space) -> str:
    """How many configurations there are, in words."""
    finite = space.size(COUNTED)
    counted = f"{'at least ' if finite >= COUNTED else ''}{finite:,} combination{'s' if finite != 1 else ''} of choices"
    ranges = [d.path for d in space.dimensions if d.values is None]
    return f"{counted}, times the continuous {' and '.join(ranges)}" if ranges else counted


def feasible(spec: StudySpec, space: Space, info: DataInfo) -> str:
    """How many of the space's networks are within the limits, in words."""
    counted = study.within(spec, space, info.shape[:2])
    return f"{counted.able} of {counted.all} networks" if counted else "not counted, for there are too many networks"


def example(space: Space, proposer: Proposer) -> TrialSpec:
    """The first trial that the study would propose."""
    chosen = proposer.example
    if chosen is None:
        raise InputError("space holds no configuration; give it choices")
    return space.specify(chosen)

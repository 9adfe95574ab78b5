"""`--dry-run`: the size, the cost and the time of a study, before anything is trained.

It is an estimate: every network of the space is taken to lie between its smallest and its largest, validation to take a
third of the work of training an image, and the machine to be as busy as it is now.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from resnet import cost
from resnet.spec import NetSpec
from search import data, execution, study
from search.errors import InputError
from search.formatting import magnitude, milliseconds, plural, shown
from search.optimize import Proposer, make_scheduler
from search.spec import (
    Appraisal,
    Configuration,
    DataInfo,
    Figure,
    LimitSpec,
    Space,
    StudySpec,
    TrainSpec,
    TrialSpec,
    appraise,
)
from search.training import images_per_s, noise

COUNTED = 100_000  # configurations; larger spaces are called larger
STEP_MACS = 2e8  # forward, of one timed step on cores: tens of milliseconds
STEPS = {"cpu": 2, "cuda": 30}  # of an epoch that is timed


@dataclass(frozen=True)
class Preview:
    """What a study would do."""

    text: str  # lines, the most asked first
    details: str  # a trial, and the study as YAML
    facts: dict[str, Any]

    @classmethod
    def of(cls, spec: StudySpec) -> "Preview":
        """Of a study: its time, the size of its space, its smallest and largest network and its first trial.

        Of one that compares: its rows, and what their trainings will cost.
        """
        info, space, proposer = study.planned(spec)
        if spec.compare:
            lines, facts, trial = *_of_rows(spec, info), ()
        else:
            lines, facts = _of_space(spec, info, space, proposer)
            if proposer.example is None:
                raise InputError("space holds no configuration; give it choices")
            flat = space.specify(proposer.example).flat()
            trial = ("example trial:", *(f"  {path}: {value}" for path, value in flat.items()))
        asked = {"study": spec.public(), **facts}
        lines += [info.note] if info.note else []
        if spec.data.name.startswith("imagefolder:") and (survey := data.prepare(spec.data).info.survey):
            lines += [f"{what}: {words}" for what, words in survey.facts().items()]
        return cls("\n".join(lines), "\n".join((*trial, "study:", spec.to_yaml())), asked)


def _of_space(spec: StudySpec, info: DataInfo, space: Space, proposer: Proposer) -> tuple[list[str], dict[str, Any]]:
    extremes = smallest_and_largest(space, info.shape[:2])
    batch = int(space.fixed.get("train.batch_size", TrainSpec().batch_size))
    speeds = Speeds.measured(spec, *((trial.net, seen(trial, info), batch) for _, trial in extremes))
    seconds = seconds_of_search(spec, info, speeds)
    lines = [
        f"{spec.name}: {plural(spec.search.trials, 'trial')} of up to {plural(spec.epochs, 'epoch')} over "
        f"{info.n_train:,} images, then {plural(spec.finals.top, 'finalist')}",
        wall_time(spec, seconds),
        of_search(spec, info, speeds),
        f"space: {size(space)}",
        *(f"  {dimension.path}: {dimension.describe()}" for dimension in space.dimensions),
    ]
    ends = [(trial.net, seen(trial, info)) for _, trial in extremes]
    timed = study.time_networks(ends, spec.latency) if spec.latency else [None, None]
    for word, (price, trial), latency in zip(("smallest", "largest"), extremes, timed, strict=True):
        net, shape = trial.net, seen(trial, info)
        words = (
            f"depth {net.depth}, unit {net.unit}, version {net.version}, shortcut {net.shortcut}, width {net.width:g}"
        )
        words += f", {shape[1]}x{shape[0]} pixels" if trial.train.image_size else ""
        answer = f", {milliseconds(latency.median)} for {spec.latency}" if latency else ""
        lines.append(f"{word} network: {price.params:,} parameters, {price.macs:,} MACs an image{answer} ({words})")
    if spec.limits != LimitSpec():
        counted = None if spec.limits.latency_ms else study.within(spec, space, info.shape[:2])
        why = "each is timed when the search begins" if spec.limits.latency_ms else "there are too many networks"
        networks = "{} of {} networks".format(*counted) if counted else f"not counted, for {why}"
        lines.append(f"within the limits: {networks}")
    for place, start in enumerate(proposer.starts, start=1):
        searched = (f"{d.path} {shown(start.chosen[d.path])}" for d in space.dimensions if d.path in start.chosen)
        lines.append(f"start {place}, {start.source}: {', '.join(searched)}")
    lines += [
        f"start: the best {former.best} of study {former.study!r} that the space and its limits hold"
        for former in spec.formers
    ]
    costs = [{"parameters": price.params, "macs": price.macs} for price, _ in extremes]
    return lines, {"seconds": seconds, "smallest": costs[0], "largest": costs[1]}


def _of_rows(spec: StudySpec, info: DataInfo) -> tuple[list[str], dict[str, Any]]:
    """The rows with their costs and published figures, how many trainings there are, and how long they take."""
    rows = spec.rows(info.shape, len(info.classes))
    prices = [appraise(row.trial, info.shape[:2], LimitSpec()) for row in rows]
    seeds, more = spec.finals.seeds, spec.finals.max_seeds - spec.finals.seeds
    order = sorted(range(len(rows)), key=lambda place: prices[place].macs)
    ends = (rows[place].trial for place in (order[0], order[-1]))
    speeds = Speeds.measured(spec, *((one.net, seen(one, info), one.train.batch_size) for one in ends))
    once = seconds_of_rows(spec, info, [price.macs for price in prices], speeds)
    seconds = [once * seeds, once * spec.finals.max_seeds]
    lines = [
        f"{spec.name}: {len(rows)} rows are compared",
        wall_time(spec, seconds),
        f"estimate: {speeds.hours(seconds[0])} {speeds}",
        f"rows: {len(rows)}, each against {rows[0].label!r} unless said otherwise",
    ]
    for given, row, price in zip(spec.compare, rows, prices, strict=True):
        lines.append(f"  {row.label}: {', '.join(_described(given.set, row, rows[0], price))}")
    if spec.scale is not None:
        lines.append(f"scale: {spec.scale.name or 'changed by hand'}")
        for path, (before, now) in spec.scale.changed.items():
            lines.append(f"  {path}: {now} in place of {before}")
    up_to = f", up to {len(rows) * spec.finals.max_seeds} where rows cannot be told from the best" if more else ""
    lines.append(
        f"trainings: {len(rows) * seeds} ({len(rows)} rows, {seeds} seeds){up_to}, "
        f"each of {plural(spec.epochs, 'epoch')} over "
        f"{info.n_train + info.n_validation:,} images (train and validation) and tested once on {info.n_test:,}"
    )
    return lines, {"seconds": seconds, "rows": [row.label for row in rows]}


def _described(given: Mapping[str, Any], row: Configuration, first: Configuration, price: Appraisal) -> list[str]:
    parts = [f"{path} {value}" for path, value in given.items()]
    parts += [f"{magnitude(price.params)} parameters", f"{magnitude(price.macs)} MACs an image"]
    figures = [Figure.of(key) for key in row.published]
    parts += [f"published {one} ({one.statistic}, {one.source.partition(' ')[0]})" for one in figures]
    if row.against not in (None, first.label):
        parts.append(f"against {row.against!r}")
    return parts


def smallest_and_largest(space: Space, image: tuple[int, int]) -> list[tuple[Appraisal, TrialSpec]]:
    """The networks of the fewest and of the most parameters and MACs, with their costs."""
    every = {trial.digest: trial for trial in space.extremes()}
    priced = [(appraise(trial, image, LimitSpec()), trial) for trial in every.values()]
    priced.sort(key=lambda pair: (pair[0].params, pair[0].macs))
    return [priced[0], priced[-1]]


def seen(trial: TrialSpec, info: DataInfo) -> tuple[int, int, int]:
    """Height, width and channels of the images that a trial's network sees."""
    return (*trial.train.sides(info.shape[:2]), info.channels)


def size(space: Space) -> str:
    """How many configurations there are, in words."""
    finite = space.size(COUNTED)
    counted = f"{'at least ' if finite >= COUNTED else ''}{finite:,} combination{'s' if finite != 1 else ''} of choices"
    ranges = [d.path for d in space.dimensions if d.values is None]
    return f"{counted}, times the continuous {' and '.join(ranges)}" if ranges else counted


@dataclass(frozen=True)
class Timed:
    """How fast one network trains."""

    images_per_s: float
    scaled_from: int | None  # side of the smaller images that were timed, where the real ones would take too long


@dataclass(frozen=True)
class Speeds:
    """How fast the smallest and the largest network of a study train here."""

    small: Timed
    large: Timed
    cores: float  # of a trial
    card: str | None  # the GPU; None where trials run on cores

    @classmethod
    def measured(cls, spec: StudySpec, *ends: tuple[NetSpec, tuple[int, int, int], int]) -> "Speeds":
        """Times the two networks on images of these shapes in batches of these sizes, for a second or two."""
        gpu = torch.cuda.is_available() and spec.resources.gpus_per_trial != 0
        before, cores = torch.get_num_threads(), spec.resources.cpus_per_trial
        torch.set_num_threads(max(1, int(cores)))
        try:
            small, large = (timed(*end, torch.device("cuda:0" if gpu else "cpu")) for end in ends)
        finally:
            torch.set_num_threads(before)
        return cls(small, large, cores, torch.cuda.get_device_name() if gpu else None)

    def hours(self, *seconds: float) -> str:
        """Device-hours of so many seconds of training, or of a range, in words."""
        found = sorted(one / 3600 * (1 if self.card else self.cores) for one in seconds)
        words = dict.fromkeys(f"{hours:.2g}" if hours < 10 else f"{hours:,.0f}" for hours in found)
        return f"{' to '.join(words)} {'GPU' if self.card else 'core'}-hours"

    def __str__(self) -> str:
        device = self.card or (
            f"{self.cores:g} cores of this machine" if self.cores > 1 else "one core of this machine"
        )
        sides = [timed.scaled_from for timed in (self.small, self.large) if timed.scaled_from]
        scaled = f" (by MACs, from images of {min(sides)} pixels)" if sides else ""
        return (
            f"(measured now on {device}: the smallest network trains at {self.small.images_per_s:,.0f} images/s, the "
            f"largest at {self.large.images_per_s:,.0f}{scaled}; another device has another speed)"
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


def of_search(spec: StudySpec, info: DataInfo, speeds: Speeds) -> str:
    """What a search costs: from one of its fastest networks alone to one of its slowest alone."""
    epochs, fewest = spec.search.trials * spec.epochs, _fewest(spec)
    all_epochs = [_seconds(epochs, info, end) for end in (speeds.small, speeds.large)]
    text = f"estimate: {speeds.hours(*all_epochs)} for {epochs:,} epochs, if no trial is stopped"
    if fewest < epochs:
        fewer = speeds.hours(*(fewest / epochs * seconds for seconds in all_epochs))
        text += f"; {fewer} where {spec.search.scheduler.value} stops all that it can"
    return f"{text} {speeds}"


def seconds_of_search(spec: StudySpec, info: DataInfo, speeds: Speeds) -> list[float]:
    """Of all trainings one after another, finals included: the least, and the most."""
    finals, images = spec.finals, spec.epochs * (info.n_train + info.n_validation)
    least = _seconds(_fewest(spec), info, speeds.small) + finals.top * finals.seeds * images / speeds.small.images_per_s
    epochs, trainings = spec.search.trials * spec.epochs, finals.top * finals.max_seeds
    return [least, _seconds(epochs, info, speeds.large) + trainings * images / speeds.large.images_per_s]


def _fewest(spec: StudySpec) -> float:
    return make_scheduler(spec.search, spec.epochs).fewest_epochs(spec.search.trials)


def _seconds(epochs: float, info: DataInfo, end: Timed) -> float:
    return epochs * (info.n_train + info.n_validation / 3) / end.images_per_s


def seconds_of_rows(spec: StudySpec, info: DataInfo, macs: Sequence[int], speeds: Speeds) -> float:
    """Of one training of each of the rows with these MACs; testing an image is taken for a third of training on it."""
    images = spec.epochs * (info.n_train + info.n_validation) + info.n_test / 3
    return images * sum(seconds_an_image(macs, speeds.small, speeds.large))


def wall_time(spec: StudySpec, seconds: Sequence[float]) -> str:
    """How long these trainings take on this machine, side by side."""
    at_once = execution.share(spec.resources, spec.search).concurrent
    least, most = (rough(one / at_once) for one in (min(seconds), max(seconds)))
    budget = spec.search.time_budget
    ends = f"; the search ends after {rough(budget)}" if budget else ""
    if spec.search.gpu_hours:
        ends += f"; with its finals it may take {spec.search.gpu_hours:g} GPU-hours"
    if spec.search.max_cost:
        ends += f"; with its finals it may cost {spec.search.max_cost}"
    return f"time on this machine: about {least if least == most else f'{least} to {most}'}, {at_once} at once{ends}"


def rough(seconds: float) -> str:
    """`2 minutes`, `3.5 hours`, `12 days`: two significant digits."""
    for unit, size in (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0)):
        if seconds >= size:
            number = float(f"{seconds / size:.2g}")
            return f"{number:g} {unit}{'' if number == 1 else 's'}"
    return "a minute"


def seconds_an_image(macs: Sequence[int], small: Timed, large: Timed) -> list[float]:
    """Of training, for each network by its MACs: on the line through the smallest and the largest, which were timed."""
    low, high = min(macs), max(macs)
    fast, slow = 1 / small.images_per_s, 1 / large.images_per_s
    return [fast + (slow - fast) * (one - low) / (high - low) if high > low else fast for one in macs]

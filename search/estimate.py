"""What a study will cost in device-hours, before it starts: two networks are timed here, and the rest is arithmetic.

It is an estimate: every network of the space is taken to lie between its smallest and its largest, validation to take a
third of the work of training an image, and the machine to be as busy as it is now.
"""

from dataclasses import dataclass

import torch

from resnet import cost
from resnet.spec import NetSpec
from search.data_spec import DataInfo
from search.packing import images_per_s, noise
from search.preflight import smallest_and_largest
from search.rungs import Halving, Hyperband
from search.schedulers import make_scheduler
from search.space import Space
from search.spec import TrainSpec, TrialSpec
from search.stopping import OneEpochTopK
from search.study_spec import StudySpec

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
    fewer: float | None  # epochs when the scheduler stops as many as it can; None where that is not known
    hours: tuple[float, float]  # of all epochs
    timed: tuple[Timed, Timed]
    scheduler: str

    def __str__(self) -> str:
        low, high = self.hours
        text = f"estimate: {_range(low, high)} {self.unit}-hours for {self.epochs:,} epochs, if no trial is stopped"
        if self.fewer is not None and self.fewer < self.epochs:
            part = self.fewer / self.epochs
            text += f"; {_range(low * part, high * part)} where {self.scheduler} stops all that it can"
        elif self.fewer is None:
            text += f"; less with {self.scheduler}, by how much is not known before"
        small, large = self.timed
        scaled = sorted({t.scaled_from for t in self.timed if t.scaled_from})
        how = f" (by MACs, from images of {scaled[0]} pixels)" if scaled else ""
        return (
            f"{text} (measured now on {self.device}: the smallest network trains at {small.images_per_s:,.0f} "
            f"images/s, the largest at {large.images_per_s:,.0f}{how}; another device has another speed)"
        )


def estimate(spec: StudySpec, space: Space, info: DataInfo) -> Estimate:
    """Times the smallest and the largest network of `space` on this machine, for a second or two."""
    gpu = torch.cuda.is_available() and spec.resources.gpus_per_trial != 0
    where = torch.device("cuda" if gpu else "cpu")
    batch = int(space.fixed.get("train.batch_size", TrainSpec().batch_size))
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, int(spec.resources.cpus_per_trial)))
    try:
        nets = [net for _, net in smallest_and_largest(space, info.shape[:2])]
        small, large = (timed(net, info.shape, batch, where) for net in nets)
    finally:
        torch.set_num_threads(before)
    return reckoned(spec, info, (small, large), torch.cuda.get_device_name() if gpu else None)


def reckoned(spec: StudySpec, info: DataInfo, speeds: tuple[Timed, Timed], card: str | None) -> Estimate:
    """The estimate that follows from the speeds on a GPU of this name, or on a trial's cores."""
    cores = spec.resources.cpus_per_trial
    epochs = spec.search.trials * spec.epochs
    images = epochs * (info.n_train + info.n_validation / 3)
    low, high = sorted(images / speed.images_per_s / 3600 * (1 if card else cores) for speed in speeds)
    return Estimate(
        device=card or ("one core of this machine" if cores <= 1 else f"{cores:g} cores of this machine"),
        unit="GPU" if card else "core",
        epochs=epochs,
        fewer=fewest_epochs(spec),
        hours=(low, high),
        timed=speeds,
        scheduler=spec.search.scheduler.value,
    )


def fewest_epochs(spec: StudySpec) -> float | None:
    """Epochs of all trials when the scheduler lets on at each rung only the share that it aims at."""
    trials, epochs = spec.search.trials, spec.epochs
    match make_scheduler(spec.search, epochs):
        case Halving() as halving:
            return trials * _mean(halving)
        case Hyperband() as hyperband:
            return sum(_mean(hyperband.brackets[hyperband.bracket(number)]) for number in range(trials))
        case OneEpochTopK(top=top):
            return trials + min(top, trials) * (epochs - 1)
        case other:
            return None if other.rungs else trials * epochs


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


def _mean(halving: Halving) -> float:
    """Epochs of a trial on average when 1/`reduction` of those at each rung go on."""
    ends = (*halving.rungs, halving.epochs)
    lengths = [end - start for start, end in zip((0, *ends), ends, strict=False)]
    return sum(length / halving.reduction**rung for rung, length in enumerate(lengths))


def _range(low: float, high: float) -> str:
    short, long = (f"{hours:.2g}" for hours in (low, high))
    return short if short == long else f"{short} to {long}"

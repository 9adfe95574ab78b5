"""How long the networks of a study take to answer: timed before the first trial, for weights do not matter for it."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from statistics import median, quantiles
from typing import Any, Self

import torch

from resnet import NetSpec, build
from resnet.classifier import Scaled
from search.activity import Activity
from search.errors import InputError
from search.export import graphs
from search.machine import usable
from search.spec import Appraisal, DataInfo, LatencySpec, Space, StudySpec, TrialSpec, on_images

Shape = tuple[int, int, int]  # height, width, channels

TIMED = 300  # networks at most: a second for each, or some seconds with ONNX Runtime
LOOKED_AT = 20_000  # combinations of choices, among which the networks are
TOGETHER = 20  # networks that take turns, all of them in memory
ROUNDS = 3  # of turns: a slow phase of the machine falls on all networks, and on a part of each one's runs
RUNS, SECONDS, MOST = 10, 0.1, 400  # of a turn that are timed: so many, and more where they take less time
WARM_RUNS, WARM_SECONDS = 3, 0.05  # before them


@dataclass(frozen=True)
class Latency:
    """Milliseconds from images to their answer."""

    median: float
    low: float  # quartiles
    high: float
    runs: int

    @classmethod
    def of(cls, times: Sequence[float]) -> Self:
        """Of two runs or more, in milliseconds."""
        low, middle, high = quantiles(times, n=4, method="inclusive")
        return cls(middle, low, high, len(times))


def in_turns(answers: Sequence[Callable[[], object]]) -> list[Latency]:
    """That of each function, which returns once its answer is there: of 30 runs or more, in turns, each warmed up."""
    times: list[list[float]] = [[] for _ in answers]
    for answer, found in list(zip(answers, times, strict=True)) * ROUNDS:
        for _ in _runs(WARM_RUNS, WARM_SECONDS):
            answer()
        for _ in _runs(RUNS, SECONDS):
            began = time.perf_counter()
            answer()
            found.append(1000 * (time.perf_counter() - began))
    return [Latency.of(found) for found in times]


def _runs(count: int, seconds: float) -> Iterator[None]:
    """Goes on until both are reached, or there were `MOST`."""
    began, done = time.perf_counter(), 0
    while done < count or (done < MOST and time.perf_counter() - began < seconds):
        yield
        done += 1


@dataclass(frozen=True)
class Latencies:
    """Of each network of a study; empty where they are not timed."""

    timed: Mapping[str, Latency]  # by the digest of the network on its images
    limit: float | None = None  # ms

    @classmethod
    def of(cls, stored: Mapping[str, Any], spec: StudySpec) -> Self:
        """As `stored` has them."""
        return cls({key: Latency(**one) for key, one in stored.items()}, spec.limits.latency_ms)

    @property
    def stored(self) -> dict[str, Any]:
        """As they are written into the study's records."""
        return {key: asdict(one) for key, one in self.timed.items()}

    def appraised(self, trial: TrialSpec, found: Appraisal, *, limited: bool = True) -> Appraisal:
        """What a trial would cost, with its latency, which is refused where that is above the limit."""
        known = self.timed.get(on_images(trial).digest)
        if known is None:
            return found
        priced = replace(found, latency_ms=known.median)
        if self.limit is None or not limited:
            return priced
        excess = math.log(known.median / self.limit)
        if excess > 0:
            reason = f"latency_ms {known.median:.3g} above the limit of {self.limit:g}"
            return priced.refused("latency_ms", excess, reason)
        return replace(priced, excess={**found.excess, "latency_ms": excess})

    def described(self, spec: StudySpec) -> str:
        """How they were timed, in words; empty where they were not."""
        if not self.timed:
            return ""
        apart = median(50 * (one.high - one.low) / one.median for one in self.timed.values())
        runs = min(one.runs for one in self.timed.values())
        return (
            f"of {spec.latency}, before training: median of {runs} runs or more, quartiles some {apart:.1f} % from it"
        )


def networks(spec: StudySpec, space: Space, info: DataInfo) -> list[TrialSpec]:
    """All networks that are to be timed: those of the space, or of the rows that are compared; none if none is asked.

    Each is a trial that has nothing else but the size of its images.

    Raises:
        InputError: they are too many, or cannot be timed here.
    """
    if spec.latency is None:
        return []
    _check(spec.latency)
    if spec.compare:
        return _different(row.trial for row in spec.rows(info.shape, len(info.classes)))
    part = space.networks()
    for dimension in part.dimensions:
        if dimension.values is None and dimension.path.startswith("net."):
            raise InputError(
                f"latency: space.{dimension.path} is a range without steps, and each network is timed before the first "
                "trial; give choices, or a step"
            )
    finite = Space(tuple(d for d in part.dimensions if d.values is not None), part.fixed)
    found = _different(map(finite.specify, islice(finite.combinations(values=True), LOOKED_AT)))
    if len(found) > TIMED:
        raise InputError(
            f"latency: the space has more than {TIMED} networks, and each is timed before the first trial; give fewer "
            "choices of net. fields"
        )
    return found


def _different(trials: Iterable[TrialSpec]) -> list[TrialSpec]:
    """Their networks on their images, each once."""
    return list({trial.digest: trial for trial in map(on_images, trials)}.values())


def _check(asked: LatencySpec) -> None:
    if asked.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "latency.device = 'cuda', but this machine has no GPU that torch can use; give cpu, or start the search "
            "where the GPU is"
        )
    if asked.device == "cpu" and asked.threads > usable():
        raise InputError(
            f"latency.threads = {asked.threads} is more than the {usable()} cores here; give at most as many"
        )
    if asked.runtime == "onnxruntime" and not graphs.installed():
        raise InputError("latency.runtime = 'onnxruntime' is not installed; pip install 'resnet-search[export]'")


def measure(spec: StudySpec, nets: Sequence[TrialSpec], shape: Shape, activity: Activity) -> Latencies:
    """Times the networks, as many together as take turns.

    Args:
        spec: of the study.
        nets: see `networks`.
        shape: of the images (height, width, channels).
        activity: is told which ones.

    Raises:
        InputError: all of them are above the study's limit.
    """
    timed: dict[str, Latency] = {}
    if nets:
        activity.begin("timing networks")
    for first in range(0, len(nets), TOGETHER):
        some = nets[first : first + TOGETHER]
        activity.change(f"timing networks {first + 1} to {first + len(some)} of {len(nets)}")
        seen = [(trial.net, (*trial.train.sides(shape[:2]), shape[2])) for trial in some]
        found = time_networks(seen, spec.latency or LatencySpec())
        timed |= zip((trial.digest for trial in some), found, strict=True)
    limit, least = spec.limits.latency_ms, min((one.median for one in timed.values()), default=0.0)
    if limit is not None and least > limit:
        raise InputError(
            f"limits.latency_ms = {limit:g} is below the fastest network of the space ({least:.3g} ms for "
            f"{spec.latency}); raise it, or allow smaller networks"
        )
    return Latencies(timed, limit)


def time_networks(nets: Sequence[tuple[NetSpec, Shape]], asked: LatencySpec) -> list[Latency]:
    """Of each on images of its shape, bytes to logits as an exported network computes them, with random weights."""
    before = torch.get_num_threads()
    torch.set_num_threads(asked.threads)
    try:
        with torch.inference_mode():
            return in_turns([_answer(net, shape, asked) for net, shape in nets])
    finally:
        torch.set_num_threads(before)


def _answer(net: NetSpec, shape: Shape, asked: LatencySpec) -> Callable[[], object]:
    """Runs the network once, and returns when it is through."""
    half = (0.5,) * net.in_channels
    with torch.random.fork_rng(devices=()), torch.inference_mode(False):  # the caller's numbers are as before
        network = Scaled(build(net), half, half)
        images = torch.zeros((asked.batch, *shape), dtype=torch.uint8)
        if asked.runtime == "onnxruntime":
            names = [str(number) for number in range(net.num_classes)]
            run, pixels = graphs.runner(graphs.onnx(network, shape, names), asked.threads), images.numpy()
            return lambda: run(pixels)
        network, images = network.to(asked.device).eval(), images.to(asked.device)
    return lambda: network(images).cpu()  # which waits for a GPU

"""How many trials share a GPU: measured on the study's largest network before the first trial.

Each trial has a process of its own, with a fraction of a GPU as Ray counts them. A GPU runs the kernels of one process
at a time, unless NVIDIA's multi-process service (MPS) runs there: without it each trial has a GPU of its own.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from typing import Any

from search import mps
from search.execution import host
from search.spec import DataInfo, Share, StudySpec, TrialSpec
from search.training import NoiseLoop, Ready, Team, device

MARGIN = 0.9  # of the card: fragments of torch's allocator, and networks that keep more than the largest
NUMBERS = (1, 2, 3, 4, 6)  # of trials that are tried together
CLOSE = 0.03  # of the best images/s: what is no gain
APART = "NVIDIA's MPS does not take them together"
TURNS = "; without it the trials of a GPU take turns and gain nothing"
DIED = "the process that was to train the largest network of the space there died"
LARGE = "the largest network of the space does not fit into its memory"


@dataclass(frozen=True)
class Measured:
    """What the largest network takes of a card, and how fast it trains there beside itself. Memory in bytes."""

    card: str
    card_bytes: int  # free when the measurement began
    trial_bytes: int  # with the data set and the CUDA context
    most: int  # trials for which there are memory, cores and work
    totals: dict[int, float]  # so many at once -> images/s of all of them


@dataclass(frozen=True)
class Packing:
    """How many trials there are on each GPU, and why."""

    trials: int
    reason: str
    measured: Measured | None = None

    def __str__(self) -> str:
        return f"{self.trials} trial{'s' if self.trials > 1 else ''} on each GPU: {self.reason}"


def share(trials: int) -> float:
    """The largest share of a GPU, in Ray's four decimals, of which it has `trials`."""
    return 10_000 // trials / 10_000


def measure(spec: TrialSpec, data: DataInfo, most: int) -> Measured | str:
    """Trains 1, 2, 3, 4 and 6 times the network at once on the GPU of this process, in processes of their own.

    At most `most` at once, no more than have memory, and no more once a number gains nothing over the one before.
    Returns why a trial has the GPU for itself where it cannot share it.

    Raises:
        InputError: there is no GPU that torch sees.
    """
    apart = mps.join()
    with Team(NoiseLoop(spec, data.shape)) as team:
        try:
            ready: Ready = team.grow(1)[0]
        except RuntimeError as error:
            if device.out_of_memory(error):
                return LARGE
            raise
        except EOFError:
            return DIED
        if not ready.together:
            return (apart or APART) + TURNS
        images = (data.n_train + data.n_validation) * (data.shape[0] * data.shape[1] * data.shape[2] + 8)  # and a label
        taken = ready.taken + images + device.CONTEXT
        most = max(1, min(most, fit(ready.card_bytes, taken)))
        totals = {1: team.images_per_s(1)}
        # Where the GPU fails one of them, those before it may still share it.
        with suppress(RuntimeError, EOFError):
            team.grow(min(most, NUMBERS[-1]) - 1)
            for number in (each for each in NUMBERS[1:] if each <= most):
                totals[number] = team.images_per_s(number)
                if not gains(totals):
                    break
    return Measured(ready.card, ready.card_bytes, taken, most, totals)


def fit(card_bytes: int, trial_bytes: int) -> int:
    """Trials of so many bytes for which a card has memory."""
    return int(MARGIN * card_bytes) // trial_bytes


def gains(totals: Mapping[int, float]) -> bool:
    """Whether the largest number of trials at once trains faster, in all, than each smaller one."""
    *fewer, last = (totals[number] for number in sorted(totals))
    return last > (1 + CLOSE) * max(fewer, default=0.0)


def choose(totals: Mapping[int, float]) -> int:
    """The smallest number of trials at once that trains, in all, about as fast as the best."""
    best = max(totals.values())
    return min(number for number, total in totals.items() if total >= (1 - CLOSE) * best)


def decide(measured: Measured | str) -> Packing:
    """As many trials as were found to train fastest together."""
    if isinstance(measured, str):
        return Packing(1, measured)
    rates = ", ".join(f"{number} at {total:,.0f}" for number, total in measured.totals.items())
    gib = 2**30
    reason = (
        f"at once on the {measured.card}, the largest network trains {rates} images/s in all; it takes "
        f"{measured.trial_bytes / gib:.1f} of {measured.card_bytes / gib:.1f} GiB, and memory, cores and trials are "
        f"enough for {measured.most}"
    )
    return Packing(choose(measured.totals), reason, measured)


def pack(
    given: Share,
    spec: StudySpec,
    network: TrialSpec,
    data: DataInfo,
    trials: int,
    closed: Callable[[], bool],
) -> tuple[Share, Packing | None]:
    """The share of a study that leaves it to be measured, once Ray runs; None where nothing is to be packed.

    Args:
        given: without measuring.
        spec, data: the study's.
        network: the largest that will be trained, see `Plan.largest`.
        trials: that are still to run.
        closed: True when the study is to end: measuring ends, too.

    Raises:
        InputError: Ray has a GPU that torch does not see.
    """
    import ray
    from ray.exceptions import RayTaskError

    if spec.resources.gpus_per_trial != "auto" or not given.gpus:
        return given, None
    if spec.search.timed:
        return given, Packing(1, f"{' and '.join(spec.search.timed)} would be of all trials on it")
    cpus, gpus = host.most(ray.nodes())
    useful = min(trials, spec.search.max_concurrent or trials)
    if cores_per_gpu(ray.nodes(), given.cpus) == 1 or useful <= gpus:
        return given, None

    def on_a_gpu() -> Measured | str:  # there may be none before the autoscaler has started a machine for this
        return measure(network, data, min(cores_per_gpu(ray.nodes(), given.cpus) or 1, ceil(useful / gpus)))

    # A worker that has measured ends, and what it has started with it.
    task = ray.remote(num_gpus=1, num_cpus=given.cpus, max_calls=1, max_retries=0)(on_a_gpu)
    running = task.remote()
    while not ray.wait([running], timeout=0.2)[0]:
        if closed():
            ray.cancel(running, force=True)
            return given, None
    try:
        packing = decide(ray.get(running))
    except RayTaskError as failed:
        raise failed.cause from None
    resources = spec.resources.model_copy(update={"gpus_per_trial": share(packing.trials)})
    return host.divide(resources, spec.search, cpus, gpus, "Ray"), packing


def cores_per_gpu(nodes: list[dict[str, Any]], cpus: float) -> int | None:
    """Trials of `cpus` cores for each GPU of the node (of `ray.nodes()`) that has fewest; None: none has a GPU yet."""
    having = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("GPU")]
    return min((max(1, int(has.get("CPU", 0.0) / cpus / has["GPU"])) for has in having), default=None)

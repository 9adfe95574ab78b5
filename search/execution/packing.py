"""How many trials share a GPU: measured on the study's largest network before the first trial.

Each trial has a process of its own, with a fraction of a GPU as Ray counts them. A GPU runs the kernels of one process
at a time, unless NVIDIA's multi-process service (MPS) runs there: without it each trial has a GPU of its own.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from search.execution import host
from search.spec import DataInfo, Objective, Share, StudySpec, TrialSpec
from search.training import device, images_per_s, noise

MARGIN = 0.9  # of the card: fragments of torch's allocator, and networks that keep more than the largest
TIMED = (Objective.IMAGES_PER_S, Objective.SECONDS)  # objectives that other trials on the card would change
APART = "no NVIDIA MPS runs there, without which the trials of a GPU take turns and gain nothing"
LARGE = "the largest network of the space does not fit beside another"
BATCHES = (8, 4, 2)  # times the trial's batch: what the card does when nothing waits for the host


@dataclass(frozen=True)
class Measured:
    """What the largest network takes of a card that it has for itself. Memory in bytes, without the data set."""

    card: str
    card_bytes: int  # free when the measurement began
    trial_bytes: int  # torch's allocator, at the most
    alone_images_per_s: float  # at the trial's batch size
    full_images_per_s: float  # at the largest batch tried, so that the card itself is the limit


@dataclass(frozen=True)
class Packing:
    """How many trials there are on each GPU, and why."""

    trials: int
    reason: str
    trial_bytes: int = 0  # with the data set and the CUDA context, where that was measured
    measured: Measured | None = None

    def __str__(self) -> str:
        return f"{self.trials} trial{'s' if self.trials > 1 else ''} on each GPU: {self.reason}"


def share(trials: int) -> float:
    """The largest share of a GPU, in Ray's four decimals, of which it has `trials`."""
    return 10_000 // trials / 10_000


def measure(spec: TrialSpec, shape: tuple[int, int, int]) -> Measured | str:
    """Measures on the GPU of this process, which must end afterwards: its CUDA context holds memory.

    Returns why a trial has the GPU for itself where it cannot share it.

    Raises:
        InputError: there is no GPU that torch sees.
    """
    where = device.of_worker(1.0)
    if not device.runs_together(where):
        return APART
    free, total = torch.cuda.mem_get_info(where)  # once there is this process's context: others may hold memory, too
    try:
        training = noise(spec, shape, where)
        alone = images_per_s(spec, training)
    except torch.OutOfMemoryError:
        return LARGE
    taken = torch.cuda.max_memory_reserved(where) - training.images.nbytes - training.labels.nbytes
    del training
    full = next(filter(None, (_at(spec, times, shape, where) for times in BATCHES)), alone)
    there = min(total, free + device.CONTEXT)
    return Measured(torch.cuda.get_device_name(where), there, taken, alone, max(full, alone))


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
    timed = [objective.value for objective in spec.search.objectives if objective in TIMED]
    if timed:
        return given, Packing(1, f"{' and '.join(timed)} would be of all trials on it")
    cpus, gpus = host.most(ray.nodes())
    useful = min(trials, spec.search.max_concurrent or trials)
    if cores_per_gpu(ray.nodes(), given.cpus) == 1 or useful <= gpus:
        return given, None
    # A worker that has measured ends, and its CUDA context with it.
    task = ray.remote(num_gpus=1, num_cpus=given.cpus, max_calls=1, max_retries=0)(measure)
    running = task.remote(network, data.shape)
    while not ray.wait([running], timeout=0.2)[0]:
        if closed():
            ray.cancel(running, force=True)
            return given, None
    try:
        packing = decide(ray.get(running), data, cores_per_gpu(ray.nodes(), given.cpus) or 1)
    except RayTaskError as failed:
        raise failed.cause from None
    resources = spec.resources.model_copy(update={"gpus_per_trial": share(packing.trials)})
    return host.divide(resources, spec.search, cpus, gpus, "Ray"), packing


def decide(measured: Measured | str, data: DataInfo, cores: int) -> Packing:
    """As many trials as fit into the card's memory, keep it busy and have one of the `cores` each; at least one."""
    if isinstance(measured, str):
        return Packing(1, measured)
    images = (data.n_train + data.n_validation) * (data.shape[0] * data.shape[1] * data.shape[2] + 8)  # and a label
    taken = measured.trial_bytes + images + device.CONTEXT
    fit = int(MARGIN * measured.card_bytes) // taken
    fed = round(measured.full_images_per_s / measured.alone_images_per_s)
    gib = 2**30
    reason = (
        f"the largest network takes {taken / gib:.1f} of the {measured.card}'s {measured.card_bytes / gib:.1f} GiB and "
        f"trains at {measured.alone_images_per_s:,.0f} of its {measured.full_images_per_s:,.0f} images/s; there are "
        f"cores for {cores}"
    )
    return Packing(max(1, min(fit, fed, cores)), reason, taken, measured)


def cores_per_gpu(nodes: list[dict[str, Any]], cpus: float) -> int | None:
    """Trials of `cpus` cores for each GPU of the node (of `ray.nodes()`) that has fewest; None: none has a GPU yet."""
    having = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("GPU")]
    return min((max(1, int(has.get("CPU", 0.0) / cpus / has["GPU"])) for has in having), default=None)


def _at(spec: TrialSpec, times: int, shape: tuple[int, int, int], where: torch.device) -> float | None:
    """Speed at a multiple of the batch size; None where that does not fit."""
    larger = spec.train.model_copy(update={"batch_size": times * spec.train.batch_size})
    try:
        trial = spec.model_copy(update={"train": larger})
        return images_per_s(trial, noise(trial, shape, where))
    except torch.OutOfMemoryError:
        return None
    finally:
        gc.collect()
        torch.cuda.empty_cache()

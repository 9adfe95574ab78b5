"""How fast a trial trains on this device, alone and beside others."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Self

import torch

from search import mps
from search.spec import TrialSpec
from search.training import device
from search.training.batches import Resident
from search.training.loop import train

STEPS, EPOCHS = 50, 3  # of one timing; the first epoch warms up
DATA = 2**30  # bytes of random images at most
EVALUATED = 512  # images
TOGETHER = 2.0  # seconds in which all processes of a team train
ANSWER = 120.0  # seconds that a process of a team has to be ready, or for an epoch
ENDING = 10.0  # and to end


def images_per_s(spec: TrialSpec, training: Resident) -> float:
    """Training speed on the device where `training` lies, by the same code as a trial's, once it is warm."""
    # Noise is not to be learnt, nor to diverge; and what trains is the whole network.
    short = spec.train.model_copy(update={"epochs": EPOCHS, "lr": 1e-6, "freeze_epochs": 0})
    part = slice(0, EVALUATED)
    validation = replace(training, images=training.images[part], labels=training.labels[part])
    epochs = train(spec.model_copy(update={"train": short}), training, validation)
    rates = [epoch.metrics["cost/images_per_s"] for epoch in epochs]
    return max(rates[1:] or rates)


def noise(spec: TrialSpec, shape: tuple[int, int, int], where: torch.device, steps: int = 0) -> Resident:
    """Random images of `shape` (height, width, channels): `steps` batches (0: STEPS), or as many as DATA holds."""
    size = spec.train.batch_size
    count = size * max(1, min(steps or STEPS, DATA // (size * shape[0] * shape[1] * shape[2])))
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, device=where)
    labels = torch.randint(0, spec.net.num_classes, (count,), device=where)
    scale = torch.full((shape[2],), 0.5, device=where)
    return Resident(images, labels, scale, scale)


@dataclass(frozen=True)
class Span:
    """One epoch of training without its validation; seconds of the machine's monotonic clock."""

    began: float
    ended: float
    images: int


@dataclass(frozen=True)
class Ready:
    """A process that trains beside others, once it is warm. Memory in bytes."""

    card: str = ""
    card_bytes: int = 0  # that were free when it began
    taken: int = 0  # by torch's allocator at the most, without the images
    together: bool = True  # its kernels run beside those of others


@dataclass(frozen=True)
class NoiseLoop:
    """A trial on random images of `shape` (height, width, channels), on a GPU or on so many threads."""

    spec: TrialSpec
    shape: tuple[int, int, int]
    gpus: float = 1.0
    threads: int = 1

    def __call__(self) -> Iterator[Any]:
        """Yields `Ready`, and then a `Span` for each epoch."""
        torch.set_num_threads(self.threads)
        where = device.of_worker(self.gpus)
        found = Ready()
        if where.type == "cuda":
            free, total = torch.cuda.mem_get_info(where)  # once there is this process's context: others hold some, too
            card = torch.cuda.get_device_name(where)
            found = Ready(card, min(total, free + device.CONTEXT), together=mps.runs(where.index))
        images = noise(self.spec, self.shape, where)
        # It is not to be learnt, nor to diverge, nor to end; and what trains is the whole network.
        endless = self.spec.train.model_copy(update={"epochs": 1_000_000, "lr": 1e-6, "freeze_epochs": 0})
        epochs = train(self.spec.model_copy(update={"train": endless}), images, None)
        next(epochs)
        if where.type == "cuda":
            own = images.images.nbytes + images.labels.nbytes
            found = replace(found, taken=torch.cuda.max_memory_reserved(where) - own)
        yield found
        trained = len(images) // self.spec.train.batch_size * self.spec.train.batch_size
        for epoch in epochs:
            ended = time.monotonic()
            yield Span(ended - trained / epoch.metrics["cost/images_per_s"], ended, trained)


class Team:
    """Processes that wait, and train side by side in each call of `images_per_s`. They end with the block.

    Args:
        loop: of each process; yields once when it is ready to train, and then after each epoch.
    """

    def __init__(self, loop: Callable[[], Iterator[Any]]) -> None:
        self._loop = loop
        self._ready: list[Connection] = []
        self._processes: list[tuple[Any, Connection]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        for _, pipe in self._processes:
            pipe.close()  # which ends it
        for process, _ in self._processes:
            process.join(ENDING)
            process.kill()

    def __len__(self) -> int:
        """Processes that are ready."""
        return len(self._ready)

    def grow(self, count: int) -> list[Any]:
        """Starts so many more processes together; what each yields when it is ready.

        Raises what a process has raised, or EOFError where it died or hangs; those before it are ready.
        """
        context, pipes = get_context("spawn"), list[Connection]()
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, self._loop), daemon=True)
            process.start()
            theirs.close()  # else a process that dies would leave the pipe open
            self._processes.append((process, ours))
            pipes.append(ours)
        found: list[Any] = []
        for pipe in pipes:
            found.append(_received(pipe))
            self._ready.append(pipe)
        return found

    def images_per_s(self, count: int, seconds: float = TOGETHER) -> float:
        """Of the first `count` processes in all: they begin at once, and all of them train for so many seconds or more.

        Raises as `grow` does.
        """
        pipes = self._ready[:count]
        for pipe in pipes:
            pipe.send(True)
        spans: dict[Any, list[Span]] = {pipe: [] for pipe in pipes}
        going = [*pipes]
        while going:
            for pipe in wait(going, ANSWER) or going[:1]:
                assert isinstance(pipe, Connection)
                spans[pipe].append(_received(pipe))
                began, ended = in_common(spans.values())
                enough = ended - began >= seconds
                pipe.send(not enough)
                if enough:
                    going.remove(pipe)
        return common_rate(list(spans.values()))


def in_common(epochs: Collection[Sequence[Span]]) -> tuple[float, float]:
    """When the last process began and the first one ended; both 0 while one of them has no epoch yet."""
    if not all(epochs):
        return 0.0, 0.0
    return max(own[0].began for own in epochs), min(own[-1].ended for own in epochs)


def common_rate(epochs: Collection[Sequence[Span]]) -> float:
    """Images/s of all processes together, over the time from the last one's beginning to the first one's end.

    Args:
        epochs: of each process, in order. What lies between two of them counts as time, as it does for a user.
    """
    began, ended = in_common(epochs)
    if ended <= began:
        raise ValueError(f"the processes have no time in common: the last began at {began}, the first ended at {ended}")
    shares = (
        span.images * max(0.0, min(span.ended, ended) - max(span.began, began)) / (span.ended - span.began)
        for own in epochs
        for span in own
    )
    return sum(shares) / (ended - began)


def _serve(pipe: Connection, loop: Callable[[], Iterator[Any]]) -> None:
    """Runs in a process of a team. It receives True to begin a turn; after each epoch True for one more, or False."""
    try:
        epochs = loop()
        pipe.send(next(epochs))
        while pipe.recv():
            more = True
            while more:
                pipe.send(next(epochs))
                more = pipe.recv()
    except (EOFError, ConnectionError):  # the block has ended
        return
    except Exception as error:  # whatever it is, `_received` raises it
        pipe.send(error)


def _received(pipe: Connection) -> Any:
    if not pipe.poll(ANSWER):
        raise EOFError("a process does not answer")
    told = pipe.recv()
    if isinstance(told, Exception):
        raise told
    return told

"""Trials in processes of their own that start an epoch together, when they are told to."""

import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

import torch

from benchmarks.report import there_and_back
from benchmarks.trial import ceilings
from benchmarks.trial.loops import Loop, Span
from search.training.speed import common_rate


@dataclass(frozen=True)
class Place:
    """Where one process runs: its threads, and its cores (None: any)."""

    threads: int
    cores: frozenset[int] | None = None


@dataclass(frozen=True)
class Turn:
    """What one turn of a team gave."""

    images_per_s: float  # of all processes together
    sgemm: float  # FLOP/s of all processes together, the mean of before and after; 0 where it was not asked for


def all_cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def pin(cores: Collection[int]) -> None:
    """Keeps this thread, and all that it starts from now on, on these cores, where the platform can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


class Team:
    """Processes that train side by side, each with a loop and a place of its own.

    Between turns they wait for a message and use no core.
    """

    def __init__(self, pipes: list[Connection]) -> None:
        self._pipes = pipes

    def turn(self) -> Turn:
        """Starts an epoch in all processes at once. Each goes on with further epochs until all have ended their first.

        Raises:
            EOFError: a process died; it has said why.
        """
        for pipe in self._pipes:
            pipe.send(True)
        epochs: dict[Connection, list[Span]] = {pipe: [] for pipe in self._pipes}
        going = list(self._pipes)
        while going:
            for pipe in wait(going):
                assert isinstance(pipe, Connection)
                epochs[pipe].append(pipe.recv())
                enough = all(epochs.values())
                pipe.send(not enough)
                if enough:
                    going.remove(pipe)
        rates = [pipe.recv() for pipe in self._pipes]
        return Turn(common_rate(list(epochs.values())), sum(rates))


@contextmanager
def team(loops: Sequence[tuple[Loop, Place]], sgemm: bool = False) -> Iterator[Team]:
    """Processes for these loops; `sgemm`: they measure the machine before and after each turn. They end with the block.

    The processes' memory stays taken for as long.
    """
    context = get_context("spawn")
    with ExitStack() as stack:
        pipes: list[Connection] = []
        for loop, place in loops:
            ours, theirs = context.Pipe()
            # no daemon: the reference loop starts processes of its own
            process = context.Process(target=_serve, args=(theirs, loop, place, sgemm))
            process.start()
            theirs.close()  # else a process that dies would leave the pipe open
            stack.callback(process.join)
            stack.callback(ours.close)  # runs before the join, and ends the process
            pipes.append(ours)
        yield Team(pipes)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def in_turns(teams: Sequence[Team], turns: int, told: Callable[[str], None] = _tell) -> list[list[Turn]]:
    """Each team's turns: A B C, C B A, ... after one of each that does not count."""
    found: list[list[Turn]] = [[] for _ in teams]
    for turn in range(-1, turns):
        for which in there_and_back(range(len(teams)), turn):
            done = teams[which].turn()
            told(f"turn {turn + 1} of {turns}, {which + 1} of {len(teams)}: {done.images_per_s:,.0f} images/s")
            if turn >= 0:
                found[which].append(done)
    return found


def _serve(pipe: Connection, loop: Loop, place: Place, sgemm: bool) -> None:
    """A process of a team: message True: a turn; then after each epoch True: one more, False: the turn is over."""
    if place.cores is not None:
        pin(place.cores)  # before torch starts threads
    torch.set_num_threads(place.threads)
    epochs = loop()
    measure = ceilings.sgemm if sgemm else float
    while _received(pipe):
        before = measure()
        more = True
        while more:
            pipe.send(next(epochs))
            more = pipe.recv()
        pipe.send((before + measure()) / 2)


def _received(pipe: Connection) -> bool:
    try:
        return pipe.recv()
    except (EOFError, ConnectionResetError):  # the block has ended, the other way with words of ours unread
        return False

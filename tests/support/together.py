"""Processes that train one network together, over gloo on cores."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from search.training import Group


def together(folder: Path, size: int, work: Callable[[Group], Any]) -> list[Any]:
    """What `work`, which can be pickled, gives in each of `size` processes, by rank."""
    folder.mkdir(parents=True)
    spawn = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    running = [spawn.Process(target=_process, args=(folder, rank, size, work)) for rank in range(size)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * size
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


def _process(folder: Path, rank: int, size: int, work: Callable[[Group], Any]) -> None:
    torch.set_num_threads(1)
    with Group.joined(folder / "meeting", rank, size, torch.device("cpu")) as group:
        found = work(group)
    torch.save(found, folder / f"{rank}.pt")

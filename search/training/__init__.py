"""One trial on one device. Neither Ray nor Optuna nor MLflow is known here."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.training.batches import Resident
    from search.training.checkpoint import SUMS, Checkpoint, latest, validated, write
    from search.training.device import CONTEXT, broken, claim, keep_freed_memory, of_worker, out_of_memory
    from search.training.loop import evaluate, train
    from search.training.speed import images_per_s, noise
    from search.training.step import Compiler

__all__ = [
    "CONTEXT",
    "SUMS",
    "Checkpoint",
    "Compiler",
    "Resident",
    "broken",
    "claim",
    "evaluate",
    "images_per_s",
    "keep_freed_memory",
    "latest",
    "noise",
    "of_worker",
    "out_of_memory",
    "train",
    "validated",
    "write",
]

__getattr__ = lazy(
    __name__,
    batches="Resident",
    checkpoint="Checkpoint SUMS latest validated write",
    device="CONTEXT broken claim keep_freed_memory of_worker out_of_memory",
    loop="evaluate train",
    speed="images_per_s noise",
    step="Compiler",
)

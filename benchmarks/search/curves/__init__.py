"""Learning curves of residual networks: the same configurations trained to the end on several tasks.

`table.json` holds them; `python -m benchmarks.search.curves` makes it, and continues where it was stopped.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.optimize.portfolio import KNOWN

TABLE = Path(__file__).parent / "table.json"
BATCH = 32  # images


@dataclass(frozen=True)
class Curves:
    """What was measured on one task; entry k is of configuration k."""

    epochs: int  # of a whole training
    train: int  # images to train on
    validation: int  # images that an error is measured on
    guess: float  # error, percent, of who always names the largest class
    errors: tuple[tuple[float, ...], ...]  # percent, after each epoch; a training that diverged is shorter
    seconds: tuple[float, ...]  # of a whole training, or of what there was of it, on the machine that trained it

    @property
    def finals(self) -> list[float | None]:
        """The last error of each configuration, percent; None: it diverged."""
        return [errors[-1] if len(errors) == self.epochs else None for errors in self.errors]


@dataclass(frozen=True)
class Table:
    """All tasks, and the configurations that each trained: values by dotted path."""

    configurations: tuple[Mapping[str, Any], ...]
    tasks: Mapping[str, Curves]

    @classmethod
    def read(cls, path: Path = TABLE) -> "Table":
        """The table at `path`; without a file there, an empty one."""
        if not path.exists():
            return cls((), {})
        held = json.loads(path.read_text())
        tasks = {
            name: Curves(**{**task, "errors": tuple(map(tuple, task["errors"])), "seconds": tuple(task["seconds"])})
            for name, task in held["tasks"].items()
        }
        return cls(tuple(held["configurations"]), tasks)

    def write(self, path: Path = TABLE) -> None:
        """A line for each configuration and each curve, so that versions can be compared."""
        tasks = {
            name: {**vars(task), "errors": _lines(task.errors), "seconds": _Line(task.seconds)}
            for name, task in self.tasks.items()
        }
        held = {"configurations": _lines(self.configurations), "tasks": tasks}
        path.write_text(_text(held) + "\n")

    def write_known(self, path: Path = KNOWN) -> None:
        """What a study begins with is chosen from this: the last error of each configuration; null: it diverged."""
        errors = {name: _Line(task.finals) for name, task in self.tasks.items()}
        known = {"configurations": _lines(self.configurations), "errors": errors, "batch_size": BATCH}
        path.write_text(_text(known) + "\n")


@dataclass(frozen=True)
class _Line:
    """Written on one line."""

    value: Any


def _lines(values: Iterable[Any]) -> list[_Line]:
    return [_Line(value) for value in values]


def _text(value: Any) -> str:
    match value:
        case _Line():
            return json.dumps(value.value)
        case dict():
            return "{\n" + ",\n".join(f"{json.dumps(key)}: {_text(one)}" for key, one in value.items()) + "}"
        case list():
            return "[\n" + ",\n".join(map(_text, value)) + "]"
        case _:
            return json.dumps(value)

"""What has been sent to MLflow: one small file in the study's folder."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

from pydantic import TypeAdapter

STUDY = "study"  # the key of the study's own run; of a trial's `7`, of its training with seed 2 in the finals `7.2`


class Mark(NamedTuple):
    """How much of a run there is, or has been sent."""

    face: str  # changes with what a run begins with
    epoch: int  # the last
    end: str  # changes with how it has ended


@dataclass
class Cursor:
    """How far MLflow is. It is saved after the fact: by an older one things are sent again, to no effect."""

    FILE: ClassVar[str] = "mlflow.json"

    store: str = ""  # the tracking server and experiment, without credentials
    experiment: str = ""  # its id there; empty while nothing has been sent
    runs: dict[str, str] = field(default_factory=dict[str, str])  # key -> id of the run in MLflow
    sent: dict[str, Mark] = field(default_factory=dict[str, Mark])  # key -> what was sent last

    @classmethod
    def parse(cls, data: bytes | None) -> "Cursor":
        """What a file holds; where there is none, or it is damaged, nothing has been sent."""
        try:
            return cls() if data is None else _CURSOR.validate_json(data, strict=True)
        except ValueError:
            return cls()

    @classmethod
    def at(cls, path: Path) -> "Cursor":
        """The cursor in a file, if there is one."""
        return cls.parse(path.read_bytes() if path.exists() else None)

    def save(self, path: Path, forced: Callable[[Path], None]) -> None:
        """Writes it, whole or not at all; `forced` is told the path then."""
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(vars(self)), encoding="utf-8")
        partial.replace(path)
        forced(path)

    @property
    def study(self) -> str | None:
        """Id of the study's own run."""
        return self.runs.get(STUDY)

    @property
    def trials(self) -> dict[int, str]:
        """Number of a trial -> id of its run."""
        return {int(key): run for key, run in self._known() if key.isdigit()}

    @property
    def seeds(self) -> dict[tuple[int, int], str]:
        """Number of a trial, and seed of its training in the finals -> id of its run."""
        parted = [(key.split("."), run) for key, run in self._known() if "." in key]
        return {(int(number), int(seed)): run for (number, seed), run in parted}

    def _known(self) -> list[tuple[str, str]]:
        return list(self.runs.items())  # at once: the mirror's thread adds to them


_CURSOR = TypeAdapter(Cursor)

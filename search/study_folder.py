"""A study on disk: one folder, one process at a time, one specification."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from search.errors import InputError
from search.study_spec import StudySpec, flatten

STAYS = ("data", "search.seed")  # what makes a study another one; whatever else is changed, it can go on with
MAY_CHANGE = ("data.dir",)


@dataclass(frozen=True)
class StudyFolder:
    """Paths inside a study's folder, and the lock that keeps a second process out."""

    path: Path
    lock: FileLock

    @classmethod
    def enter(cls, output: Path, name: str) -> "StudyFolder":
        """Makes the folder and locks it until the process ends or `leave` is called.

        Raises:
            InputError: not writable, or another process works on this study.
        """
        path = output.absolute() / name  # workers have other working directories
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path / ".lock")
            lock.acquire(blocking=False)
            (path / ".holder").write_text(f"process {os.getpid()} on {socket.gethostname()}")
        except Timeout:
            holder = (path / ".holder").read_text() if (path / ".holder").exists() else "another process"
            raise InputError(
                f"study {name!r} in {path} is being worked on by {holder}; wait for it, or use another --name"
            ) from None
        except OSError as error:
            raise InputError(
                f"output = {str(output)!r} cannot be written ({error.strerror}); choose another --output"
            ) from None
        return cls(path, lock)

    def leave(self) -> None:
        """Lets another process in."""
        self.lock.release()

    @property
    def study_file(self) -> Path:
        return self.path / "study.yaml"

    @property
    def journal(self) -> Path:
        return self.path / "optuna.journal"

    def outbox(self, generation: int) -> Path:
        """Events for MLflow; `generation` counts the studies in this folder, as what it searches was changed."""
        return self.path / f"outbox{_suffix(generation)}.jsonl"

    def trials(self, generation: int) -> Path:
        """Checkpoints."""
        return self.path / f"trials{_suffix(generation)}"

    def _settled(self) -> dict[str, Any]:
        try:
            before = yaml.safe_load(self.study_file.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            before = None
        if not isinstance(before, dict):
            raise InputError(f"{self.study_file} is damaged; remove it to continue with the study given now")
        return before

    def settle(self, spec: StudySpec) -> None:
        """Writes the resolved study; where one is, checks that it has the same data and seed.

        Raises:
            InputError: the folder holds a study of other data, or with another seed.
        """
        if self.study_file.exists():
            before = flatten(self._settled())
            now = flatten(yaml.safe_load(spec.to_yaml()))
            for path in sorted(before.keys() | now.keys()):
                if not path.startswith(STAYS) or path in MAY_CHANGE or before.get(path) == now.get(path):
                    continue
                raise InputError(
                    f"{path} = {now.get(path)!r}, but the study in {self.path} was made with {before.get(path)!r}; "
                    "use another --name for another study"
                )
        partial = self.study_file.with_suffix(".part")
        partial.write_text(spec.to_yaml())
        partial.replace(self.study_file)


def _suffix(generation: int) -> str:
    return "" if generation == 1 else f"-{generation}"

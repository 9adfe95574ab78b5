"""How a study has ended so far, as it was last said."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter

from search.records.trial import Metrics, now_ms


@dataclass(frozen=True)
class Champion:
    """The training whose network is the study's answer."""

    number: int  # of its trial
    seed: int
    place: str  # where it is exported: a folder, or the zip archive of one, relative to the study's place
    tested: tuple[float, ...]  # the test errors of its configuration by seed, in percent


@dataclass(frozen=True)
class Conclusion:
    """The end of a start of the study, with its answer."""

    state: str  # complete, interrupted or failed; running, once the study goes on
    time_ms: int = field(default_factory=now_ms)  # Unix time
    note: str = ""  # Markdown
    front: tuple[int, ...] = ()  # numbers of the trials on the Pareto front
    files: tuple[str, ...] = ()  # of the report, relative to the study's place
    metrics: dict[int, Metrics] = field(default_factory=dict[int, Metrics])  # trials and trainings over -> of the study
    champion: Champion | None = None

    @staticmethod
    def of(stored: Mapping[str, Any]) -> "Conclusion":
        """As `stored` has it."""
        return _STORED.validate_python(stored)

    @property
    def stored(self) -> dict[str, Any]:
        """As it is written into a storage."""
        return _STORED.dump_python(self, mode="json")

    def after(self, before: "Conclusion | None") -> "Conclusion":
        """With what was said `before` of metrics and of a champion; what says nothing new keeps its time."""
        if before is None:
            return self
        new = {step: one for step, one in self.metrics.items() if not _says(before, step, one)}
        whole = replace(self, metrics=before.metrics | new, champion=self.champion or before.champion)
        return before if replace(whole, time_ms=before.time_ms) == before else whole


def _says(before: Conclusion, step: int, one: Metrics) -> bool:
    return step in before.metrics and before.metrics[step].values == one.values


_STORED = TypeAdapter(Conclusion)

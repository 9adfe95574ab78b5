"""How a study has ended so far, as it was last said."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

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

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """As `stored` has it."""
        champion = stored["champion"]
        return cls(
            state=stored["state"],
            time_ms=stored["time_ms"],
            note=stored["note"],
            front=tuple(stored["front"]),
            files=tuple(stored["files"]),
            metrics={int(step): Metrics.of(one) for step, one in stored["metrics"].items()},
            champion=None if champion is None else Champion(**champion | {"tested": tuple(champion["tested"])}),
        )

    @property
    def stored(self) -> dict[str, Any]:
        """As it is written into a storage."""
        return asdict(self) | {"metrics": {str(step): one.stored for step, one in self.metrics.items()}}

    def after(self, before: "Conclusion | None") -> "Conclusion":
        """With what was said `before` of metrics and of a champion; what says nothing new keeps its time."""
        if before is None:
            return self
        said = {step: one for step, one in before.metrics.items() if self._says(step, one)}
        metrics = {**before.metrics, **self.metrics, **said}
        whole = replace(self, metrics=metrics, champion=self.champion or before.champion)
        return before if replace(whole, time_ms=before.time_ms) == before else whole

    def _says(self, step: int, one: Metrics) -> bool:
        return step in self.metrics and self.metrics[step].values == one.values

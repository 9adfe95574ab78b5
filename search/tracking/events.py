"""What happens to a study, as MLflow is told, and the names that its runs have there.

The study is the parent run, each trial a child, each training of a finalist a child of its trial. Metrics have the
epoch as step. A run has the status FINISHED for complete, pruned and diverged trials (each an answer about a
configuration; the tag `search.state` tells them apart) and FAILED for failed and infeasible ones, which were never
trained; the tag `search.reason` says why. An interrupted study is KILLED.
"""

import re
import time
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from search.errors import without_credentials
from search.records import TrialState

Text = Annotated[str, AfterValidator(without_credentials)]

STUDY = "study"  # the parent run's name among the keys of a study's runs; others: `run_key`

# A trial that learned something, be it that the network diverges, has done its work. One that never trained has not.
RUN_STATUS = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "FINISHED",
    TrialState.DIVERGED: "FINISHED",
    TrialState.INFEASIBLE: "FAILED",
    TrialState.FAILED: "FAILED",
}
STUDY_STATUS = {"complete": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


def run_key(number: int, seed: int | None) -> str:
    """`7` for a trial, `7.2` for its training with seed 2 in the finals."""
    return str(number) if seed is None else f"{number}.{seed}"


def of_trials(runs: Mapping[str, str]) -> dict[int, str]:
    """Of runs by their keys those of trials: number -> id."""
    return {int(key): run for key, run in runs.items() if key.isdigit()}


def of_seeds(runs: Mapping[str, str]) -> dict[tuple[int, int], str]:
    """Of runs by their keys those of trainings in the finals: (number of the trial, seed) -> id."""
    parted = [(key.split("."), run) for key, run in runs.items() if "." in key]
    return {(int(number), int(seed)): run for (number, seed), run in parted}


def label(study_key: str) -> str:
    """The study's key as it stands in tags, and in quotes in a search filter."""
    return re.sub(r"[^\w./:@+ -]", "_", study_key)


class _Record(BaseModel):
    """Metrics may be NaN or infinite: written as strings, since JSON has no number for them."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    time_ms: int = Field(default_factory=lambda: time.time_ns() // 1_000_000)  # Unix time; default: now


class Dataset(BaseModel):
    """What a trial was trained on. `digest` has at most 36 characters, `source` says where the images came from.

    Of one name and digest MLflow keeps one data set, with the profile that came first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    digest: str = Field(max_length=36)
    source: str
    profile: dict[str, Any] = {}
    context: str = "training"  # what for: MLflow shows it beside the name


class StudyStarted(_Record):
    """Every start of the study, the first and each that continues it. Its trials are logged with its data set."""

    kind: Literal["study_started"] = "study_started"
    name: str
    params: dict[str, Text]
    tags: dict[str, Text] = {}
    dataset: Dataset | None = None


class _OfTrial(_Record):
    number: int  # of the trial
    seed: int | None = None  # of one training of a finalist; None: of the trial itself

    @property
    def run(self) -> str:
        """Names the run among those of the study."""
        return run_key(self.number, self.seed)


class TrialStarted(_OfTrial):
    """Each start of a trial, or of a training of a finalist; one that is continued keeps its run."""

    kind: Literal["trial_started"] = "trial_started"
    name: str
    params: dict[str, Text]
    tags: dict[str, Text] = {}
    trial_json: str | None = None
    dataset: Dataset | None = None  # None: the study's


class EpochEnded(_OfTrial):
    """One epoch. One that was recorded before, ahead of a crash, is not recorded again."""

    kind: Literal["epoch"] = "epoch"
    epoch: int  # from 1
    metrics: dict[str, float]


class FinalistSummed(_Record):
    """What the trainings of a finalist gave together; `seeds` of them are the step of the metrics."""

    kind: Literal["finalist"] = "finalist"
    number: int  # of the trial
    seeds: int
    metrics: dict[str, float]

    @property
    def run(self) -> str:
        """Names the trial's run among those of the study."""
        return run_key(self.number, None)


class ChampionChosen(_OfTrial):
    """The training whose network is the study's answer."""

    kind: Literal["champion"] = "champion"
    folder: str  # exported: a folder of the driver's machine, or the URL of a zip archive of it
    tested: tuple[float, ...]  # the test errors of its configuration by seed, in percent


class TrialEnded(_OfTrial):
    """The end of a trial, with what is measured once. Its artifacts exist till they are sent."""

    kind: Literal["trial_ended"] = "trial_ended"
    state: TrialState
    reason: Text | None = None
    tags: dict[str, Text] = {}
    metrics: dict[str, float] = {}
    step: ClassVar[int] = 0  # of the metrics: each is measured once
    artifacts: tuple[str, ...] = ()  # files: paths on the driver's machine, or URLs


class StudyEnded(_Record):
    """The end of this start of the study, with the answer.

    Metrics are given with a `step` that no earlier end had, or with the same values.
    """

    kind: Literal["study_ended"] = "study_ended"
    state: Literal["complete", "interrupted", "failed"]
    note: Text  # Markdown
    front: tuple[int, ...] = ()  # numbers of the trials on the Pareto front
    tags: dict[str, Text] = {}
    metrics: dict[str, float] = {}
    step: int = 0  # of the metrics
    artifacts: tuple[str, ...] = ()


Event = StudyStarted | TrialStarted | EpochEnded | TrialEnded | FinalistSummed | ChampionChosen | StudyEnded

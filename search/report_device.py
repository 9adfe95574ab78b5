"""What a study cost, in hours of the devices that its trainings held."""

from collections.abc import Sequence
from dataclasses import dataclass

from search.records import StudySummary, TrialRecord


@dataclass(frozen=True)
class DeviceHours:
    """Seconds of training and testing times what a trial holds: GPUs, or cores where it holds no GPU."""

    unit: str  # `GPU-hours` or `core-hours`
    search: float
    finals: float

    @property
    def total(self) -> float:
        """Of search and finals."""
        return self.search + self.finals


def device_hours(summary: StudySummary, trials: Sequence[TrialRecord]) -> DeviceHours | None:
    """Of all trials, those taken over and those at work too; None where it is not known what they held.

    Where several trials share a GPU each counts its share, whatever of it the others left idle.
    """
    of_trials = summary.holds or summary.finals_hold
    of_finals = summary.finals_hold or summary.holds
    gpus = any(held.get("gpus") for held in (of_trials, of_finals))
    device = "gpus" if gpus else "cpus"
    if not of_trials:
        return None
    finalists = summary.finals.finalists if summary.finals else ()
    search = sum(trial.seconds or 0.0 for trial in trials)
    finals = sum(run.seconds or 0.0 for finalist in finalists for run in finalist.runs)
    return DeviceHours(
        "GPU-hours" if gpus else "core-hours",
        search * of_trials.get(device, 0.0) / 3600,
        finals * of_finals.get(device, 0.0) / 3600,
    )


def shown(hours: float) -> str:
    """`0.042`, `1.3`, `12`, `1,240`."""
    return f"{hours:.2g}" if hours < 10 else f"{hours:,.0f}"


def sentence(cost: DeviceHours) -> str:
    """`0.083 core-hours: 0.035 in the search, 0.048 in the finals`."""
    both = cost.search and cost.finals
    parts = f": {shown(cost.search)} in the search, {shown(cost.finals)} in the finals" if both else ""
    return f"{shown(cost.total)} {cost.unit}{parts}"

"""Words of a report: the columns of its tables, values as a reader sees them, and what the study cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from search import formatting
from search.formatting import ABSENT, ASKED, duration, listed, magnitude, percent
from search.records import Finals, StudySummary, TrialRecord, Trials, TrialState
from search.report.finals import Standing
from search.spec import Objective


def finals_columns(finals: Finals) -> list[str]:
    """Parameters that a table of finalists shows: depth, version and shortcut, then what tells them apart."""
    every = sorted({path for finalist in finals.finalists for path in finalist.params})
    asked = [path for path in formatting.ASKED if path in every]

    def values(path: str) -> set[str]:
        return {repr(finalist.params.get(path)) for finalist in finals.finalists}

    return [*asked, *(path for path in every if path not in asked and len(values(path)) > 1)]


def extent(finals: Finals) -> str:
    """How many trainings of how many finalists, and how they ended."""
    runs = [run for finalist in finals.finalists for run in finalist.runs]
    ends = ", ".join(
        f"{count} {state.value}" for state in TrialState if (count := sum(run.state is state for run in runs))
    )
    return (
        f"{formatting.plural(len(runs), 'training')} of {formatting.plural(len(finals.finalists), 'finalist')} "
        f"({ends}), seeds {finals.seeds} to {finals.most_seeds}; {finals.epochs} epochs each"
    )


def error(standing: Standing) -> str:
    """`1.39 ± 0.31 %`: mean and standard deviation."""
    spread = "" if standing.deviation is None else f" ± {formatting.points(standing.deviation)}"
    return formatting.ABSENT if standing.mean is None else f"{formatting.points(standing.mean)}{spread} %"


def interval(standing: Standing) -> str:
    """`1.01 to 1.77`."""
    found = standing.interval
    return formatting.ABSENT if found is None else f"{formatting.points(found.low)} to {formatting.points(found.high)}"


def unbeaten(summary: StudySummary, trials: Sequence[TrialRecord]) -> Trials:
    """The Pareto front of a study of several objectives; empty where there is one alone."""
    return Trials(trials).front(summary.objectives) if len(summary.objectives) > 1 else Trials()


def validation_images(summary: StudySummary) -> int:
    """Number of images on which every validation error was counted."""
    return int(summary.data["validation"])


OBJECTIVES = {
    Objective.VAL_ERROR: "validation error",
    Objective.MACS: "MACs",
    Objective.PARAMS: "parameters",
    Objective.IMAGES_PER_S: "images/s",
    Objective.SECONDS: "training time",
}


def together(objectives: Sequence[Objective]) -> str:
    """`both validation error and MACs`, `all of validation error, MACs and parameters`."""
    names = listed([OBJECTIVES[objective] for objective in objectives])
    return f"{'both' if len(objectives) == 2 else 'all of'} {names}"


def objective(trial: TrialRecord, which: Objective, images: int) -> str:
    """What a trial reached in one objective, with its unit: `1.4 %`, `2.5M MACs`, `42 s of training`."""
    value = trial.objective(which)
    match which:
        case Objective.VAL_ERROR:
            return percent(value, images)
        case Objective.MACS | Objective.PARAMS:
            return f"{magnitude(None if value is None else round(value))} {OBJECTIVES[which]}"
        case Objective.IMAGES_PER_S:
            return ABSENT if value is None else f"{value:,.0f} images/s"
        case Objective.SECONDS:
            return f"{duration(value)} of training"


def varied(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[str]:
    """Dotted paths that tell trials apart, those of the space first and in its order.

    A searched path counts `n/a` as a value; a path that follows from others (absent or constant) does not vary.
    """
    others = sorted({path for trial in trials for path in trial.params} - summary.space.keys())
    values = {path: [trial.params.get(path) for trial in trials] for path in (*summary.space, *others)}
    return [
        path
        for path, seen in values.items()
        if len({repr(value) for value in seen if path in summary.space or value is not None}) > 1
    ]


def sort_key(value: object) -> tuple[int, float, str]:
    """Numbers by size, then words by alphabet, then missing values: a total order over mixed values."""
    if value is None:
        return 2, 0.0, ""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return 0, float(value), ""
    return 1, 0.0, str(value)


def columns(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[str]:
    """Paths that a table of trials shows: depth, version and shortcut, then whatever else varies."""
    asked = [path for path in ASKED if any(path in trial.params for trial in trials)]
    return [*asked, *(path for path in varied(summary, trials) if path not in asked)]


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


def device_sentence(cost: DeviceHours) -> str:
    """`0.083 core-hours: 0.035 in the search, 0.048 in the finals`."""
    both = cost.search and cost.finals
    parts = f": {shown(cost.search)} in the search, {shown(cost.finals)} in the finals" if both else ""
    return f"{shown(cost.total)} {cost.unit}{parts}"

"""Words of a report: what it calls objectives and costs, and the parameters that tell trials apart."""

from collections.abc import Collection, Sequence

from search.formatting import ABSENT, ASKED, duration, error_on, listed, magnitude, milliseconds, percent
from search.records import Finalist, Finals, TrialRecord
from search.spec import Objective

OBJECTIVES = {
    Objective.VAL_ERROR: error_on("validation", Objective.VAL_ERROR.measure),
    Objective.VAL_BALANCED_ERROR: error_on("validation", Objective.VAL_BALANCED_ERROR.measure),
    Objective.MACS: "MACs",
    Objective.PARAMS: "parameters",
    Objective.IMAGES_PER_S: "images/s",
    Objective.SECONDS: "training time",
    Objective.LATENCY_MS: "latency",
}


def together(objectives: Sequence[Objective]) -> str:
    """`both validation error and MACs`, `all of validation error, MACs and parameters`."""
    names = listed([OBJECTIVES[objective] for objective in objectives])
    return f"{'both' if len(objectives) == 2 else 'all of'} {names}"


def objective(trial: TrialRecord, which: Objective, images: int) -> str:
    """What a trial reached in one objective, with its unit: `1.4 %`, `2.5M MACs`, `42 s of training`."""
    value = trial.objective(which)
    match which:
        case Objective.VAL_ERROR | Objective.VAL_BALANCED_ERROR:
            return percent(value, images)
        case Objective.MACS | Objective.PARAMS:
            return f"{magnitude(None if value is None else round(value))} {OBJECTIVES[which]}"
        case Objective.IMAGES_PER_S:
            return ABSENT if value is None else f"{value:,.0f} images/s"
        case Objective.SECONDS:
            return f"{duration(value)} of training"
        case Objective.LATENCY_MS:
            return milliseconds(value)


def begun(text: str) -> str:
    """With a capital first letter, as a sentence begins."""
    return text[:1].upper() + text[1:]


def hours(value: float) -> str:
    """`0.042`, `1.3`, `12`, `1,240`."""
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def sort_key(value: object) -> tuple[int, float, str]:
    """Numbers by size, then words by alphabet, then missing values: a total order over mixed values."""
    if value is None:
        return 2, 0.0, ""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return 0, float(value), ""
    return 1, 0.0, str(value)


def varied(space: Collection[str], of: Sequence[TrialRecord | Finalist]) -> list[str]:
    """Dotted paths that tell configurations apart, those of the `space` first and in its order.

    A searched path counts `n/a` as a value; a path that follows from others (absent or constant) does not vary.
    """
    others = sorted({path for one in of for path in one.params}.difference(space))
    values = {path: [one.params.get(path) for one in of] for path in (*space, *others)}
    return [
        path
        for path, seen in values.items()
        if len({repr(value) for value in seen if path in space or value is not None}) > 1
    ]


def columns(space: Collection[str], of: Sequence[TrialRecord | Finalist]) -> list[str]:
    """Paths that a table of them shows: depth, version and shortcut, then whatever else varies."""
    asked = [path for path in ASKED if any(path in one.params for one in of)]
    return [*asked, *(path for path in varied(space, of) if path not in asked)]


def finals_columns(finals: Finals) -> list[str]:
    """`columns` of finalists."""
    return columns(sorted({path for one in finals.finalists for path in one.params}), finals.finalists)

"""The answer in one sentence, what may be said against it, and its table."""

from collections.abc import Sequence

from search import report_device, report_table
from search import report_facts as facts
from search import report_finals as finals_of
from search import report_finals_text as finals_text
from search import report_words as words
from search.importance import MOST_TRIALS
from search.markdown_table import table
from search.records import StudySummary, TrialRecord, TrialState
from search.report_finals_table import columns, extent, finalist_table
from search.report_front import alone_on_the_front, front_sentence, unbeaten
from search.study_sections import Objective

TOP = 5  # rows of the answer's table


def sentence(summary: StudySummary, trials: Sequence[TrialRecord]) -> str:
    """The answer: which network to use and what it reached, those of the Pareto front, or why none can be named."""
    several = front_sentence(summary, trials)
    if several:
        return several
    if summary.finals is not None and not finals_of.running(summary):
        return finals_text.sentence(summary.finals)
    chosen = facts.best(trials)
    error = None if chosen is None else facts.measured(chosen)
    if chosen is None or error is None:
        return _no_network(summary, trials)
    images = words.validation_images(summary)
    unit = chosen.params.get("net.unit")
    cost = [] if unit is None else [f"{str(unit).replace('single', 'single-layer')} units"]
    if chosen.params_count is not None:
        cost.append(f"{words.magnitude(chosen.params_count)} parameters")
    if chosen.macs is not None:
        cost.append(f"{words.magnitude(chosen.macs)} MACs")
    inner = f" ({', '.join(cost)})" if cost else ""
    wrong = round(error * images / 100)
    early = "" if chosen.state is TrialState.COMPLETE else ", where it was stopped early: no trial is complete"
    return (
        f"Use {words.network_sentence(chosen.params)}{inner}: {words.percent(error, images)} validation error"
        f" ({wrong} of {images} images) after {words.plural(chosen.epochs, 'epoch')}{early}"
        f"{alone_on_the_front(summary, chosen, trials)}."
    )


def of_finals(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[str]:
    """What is left to say of the finals below the sentence: that they are missing, or what they add to a front."""
    missing = finals_of.missing(summary)
    beside = report_table.sentence(summary) if summary.finals is not None and summary.finals.compared else None
    if missing is not None or beside is not None:
        return [line for line in (missing, beside) if line is not None and (trials or summary.finals)]
    if summary.finals is None or not front_sentence(summary, trials):
        return []
    return [f"Of the finalists, by error alone: {finals_text.sentence(summary.finals)}"]


def _no_network(summary: StudySummary, trials: Sequence[TrialRecord]) -> str:
    if summary.finals is not None and summary.finals.compared:
        return "No configuration can be recommended yet."
    if not trials and summary.stopped:
        return f"No network can be recommended: no trial was started ({summary.stopped})."
    ends = ", ".join(f"{number} {state}" for state, number in facts.counts(trials).items() if number)
    return f"No network can be recommended: none of {words.plural(len(trials), 'trial')} has a result" + (
        f" ({ends})." if ends else "."
    )


def settings(summary: StudySummary, trials: Sequence[TrialRecord]) -> str:
    """The chosen trial's other searched values in one sentence; empty where there are none."""
    if summary.finals is not None and not finals_of.running(summary) and not front_sentence(summary, trials):
        return finals_text.settings(summary.finals, columns(summary.finals))
    chosen = facts.best(trials)
    if chosen is None:
        return ""
    paths = [path for path in summary.space if path in chosen.params and path not in words.ASKED]
    names = words.headings(paths)
    values = ", ".join(f"{names[path]} {words.shown(chosen.params[path])}" for path in paths)
    found = "The lowest error was found" if unbeaten(summary, trials) else "Found"
    return f"{found} by trial {chosen.number} with {values}." if values else f"{found} by trial {chosen.number}."


def caveats(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[str]:
    """What the answer does not say of itself, a sentence each; empty where there is no answer."""
    if summary.finals is not None and not finals_of.running(summary) and not front_sentence(summary, trials):
        return [*finals_text.caveats(summary, summary.finals, trials), *_stopped(summary, trials)]
    return _of_the_search(summary, trials)


def _of_the_search(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[str]:
    chosen = facts.best(trials)
    error = None if chosen is None else facts.measured(chosen)
    if chosen is None or error is None:
        return []
    images = words.validation_images(summary)
    peers = [trial for trial in facts.ranked(trials) if trial.state is chosen.state]
    others = facts.rivals(trials, images)
    kind = "complete" if chosen.state is TrialState.COMPLETE else "stopped"
    subject = "The lowest error" if unbeaten(summary, trials) else "It"
    lines = [
        "This is validation error, not test error: no trial has seen the test images.",
        f"{subject} is the best of {words.plural(len(peers), kind + ' trial')}, picked on the images that score it, and"
        " so optimistic; each configuration was trained once, with one seed.",
        _uncertainty(error, images),
    ]
    if others:
        names = ", ".join(f"trial {t.number} ({words.network(t.params)})" for t in others[:TOP])
        more = f" and {len(others) - TOP} more" if len(others) > TOP else ""
        lie = f"{words.plural(len(others), 'other configuration')} {'lies' if len(others) == 1 else 'lie'}"
        lines.append(f"{lie} within that and cannot be told from it: {names}{more}.")
    elif len(peers) > 1:
        lines.append("No other configuration lies within that.")
    if unbeaten(summary, trials) and facts.counts(trials)["pruned"]:
        lines.append("Trials were stopped early by their error alone: cheaper networks among them were not compared.")
    return [*lines, *_stopped(summary, trials)]


def _stopped(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[str]:
    """Why there are fewer trials than were asked for, in one sentence; empty where there are not."""
    ended = facts.own(trials) - facts.counts(trials).get(TrialState.RUNNING, 0)
    return [f"The study ended after {ended} of {summary.trials} trials: {summary.stopped}."] if summary.stopped else []


def _uncertainty(error: float, images: int) -> str:
    points = facts.margin(error, images)
    if error == 0:
        return (
            f"No image of {images} wrong is compatible with a true error of up to {points:.2g} %"
            " (95 %, the rule of three)."
        )
    return f"On {images} images its standard error is {points:.2g} points (binomial)."


def answer(summary: StudySummary, trials: Sequence[TrialRecord]) -> str:
    """Markdown: the sentence, the settings, the finalists and the best trials; for a terminal and an MLflow note.

    The trials are the five of the lowest error, or where there are several objectives all that no other beats.
    """
    parts = [sentence(summary, trials), settings(summary, trials), *of_finals(summary, trials)]
    parts += _stopped(summary, trials) if trials else []
    if summary.finals is not None:
        parts.append(finalist_table(summary.finals))
    parts += trial_table(summary, trials, unbeaten(summary, trials) or facts.ranked(trials)[:TOP])
    return "\n\n".join(part for part in parts if part) + "\n"


def trial_table(
    summary: StudySummary, trials: Sequence[TrialRecord], of: Sequence[TrialRecord] | None = None
) -> list[str]:
    """The ranked trials, or `of` them, as one Markdown table in a list; an empty list where no trial has a result."""
    order = facts.ranked(trials)
    if not order:
        return []
    shown = {trial.number for trial in (order if of is None else of)}
    speed = Objective.IMAGES_PER_S in summary.objectives
    images = words.validation_images(summary)
    paths = words.columns(summary, trials)
    costs = ("epochs", "val error", "params", "MACs", "time", *(["images/s"] if speed else []))
    rows = [
        (
            str(rank),
            str(trial.number),
            *(words.shown(trial.params.get(path)) for path in paths),
            f"{trial.epochs} of {summary.epochs}",
            words.percent(facts.measured(trial), images),
            words.magnitude(trial.params_count),
            words.magnitude(trial.macs),
            words.duration(trial.seconds),
            *([f"{trial.images_per_s or 0:,.0f}"] if speed else []),
        )
        for rank, trial in enumerate(order, start=1)
        if trial.number in shown
    ]
    head = ("rank", "trial", *words.headings(paths).values(), *costs)
    return [table(head, rows, numeric=("rank", "trial", *costs))]


def importance_basis(summary: StudySummary, trials: Sequence[TrialRecord]) -> str:
    """On what the importances rest: how many trials, compared at which epoch."""
    reached = len(facts.at_epoch(trials, summary.first_rung))
    drawn = f"{MOST_TRIALS} of the " if reached > MOST_TRIALS else "the "
    return (
        f"Share of the variance of the error at epoch {summary.first_rung} that each parameter explains, over {drawn}"
        f"{words.plural(reached, 'trial')} that reached it: an equal budget for all, and early."
    )


def effects_basis(summary: StudySummary, level: float) -> str:
    """How the effects of single choices are compared."""
    return (
        f"How many times as large the error is at epoch {summary.first_rung}, an equal budget for all, with another"
        f" value in place of the best trial's, all else alike; bars are {level:g} % intervals. From pairs of"
        " configurations that differ in this alone, or, with fewer than three, from a linear model of the logarithm of"
        " the error over all parameters that varied, without interactions."
    )


def cost_tile(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[tuple[str, str]]:
    """Device-hours, where it is known what a trial held."""
    cost = report_device.device_hours(summary, trials)
    return [] if cost is None else [(cost.unit, report_device.shown(cost.total))]


def facts_of_study(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[tuple[str, str]]:
    """Settings and environment as pairs of name and value."""
    found = ", ".join(f"{number} {state}" for state, number in facts.counts(trials).items() if number)
    begun = facts.own(trials)
    before = f", and {len(trials) - begun} taken over from before the study was changed" if begun < len(trials) else ""
    searched = (
        []
        if summary.finals is not None and summary.finals.compared
        else [
            ("trials", f"{begun} of {summary.trials}{before}{': ' if found else ''}{found}"),
            ("epochs", f"{summary.epochs}, at least {summary.first_rung} before a trial may be stopped"),
            ("objectives", words.listed([words.OBJECTIVES[objective] for objective in summary.objectives])),
            ("sampler, scheduler, seed", f"{summary.sampler}, {summary.scheduler}, {summary.seed}"),
        ]
    )
    cost = report_device.device_hours(summary, trials)
    return [
        *searched,
        *((f"limit: {name}", f"{value:,}") for name, value in summary.limits.items()),
        *([] if summary.finals is None else [("finals", extent(summary.finals))]),
        ("wall time", words.duration(summary.elapsed_seconds)),
        ("training time", words.duration(_seconds(summary, trials))),
        *([] if cost is None else [("cost", report_device.sentence(cost))]),
        *((f"data: {key}", shown_data(key, value)) for key, value in summary.data.items()),
        ("hardware", summary.hardware),
        ("versions", ", ".join(f"{name} {version}" for name, version in summary.versions.items())),
    ]


def _seconds(summary: StudySummary, trials: Sequence[TrialRecord]) -> float:
    finalists = summary.finals.finalists if summary.finals else ()
    runs = [run for finalist in finalists for run in finalist.runs]
    return sum(one.seconds or 0.0 for one in (*trials, *runs))


def shown_data(key: str, value: object) -> str:
    """A value of the data set's description: a shape as `8 x 8 x 1`, class names as their number and the first ten."""
    if not isinstance(value, (list, tuple)):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if key == "shape":
        return " x ".join(map(str, value))
    return f"{len(value)}: {', '.join(map(str, value[:10]))}{', ...' if len(value) > 10 else ''}"

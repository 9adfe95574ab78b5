"""The answer in one sentence, what may be said against it, and its table."""

from collections import Counter
from collections.abc import Sequence

from search import formatting
from search.formatting import table
from search.optimize import MOST_TRIALS
from search.records import Finals, StudySummary, TrialRecord, Trials, TrialState
from search.report import finals, published, wording
from search.report.finals import Standing, Verdict, flattery, name, network, standings, verdict_of
from search.report.tables import finalist_table
from search.report.wording import (
    device_hours,
    device_sentence,
    error,
    extent,
    finals_columns,
    interval,
    shown,
    unbeaten,
)
from search.spec import Objective
from search.statistics import test_set_error


def finals_sentence(finals: Finals) -> str:
    """The answer of finals that are complete and have a champion."""
    order = standings(finals)
    best = order[0]
    told = f"Of {len(order)} configurations compared, use" if finals.compared else "Use"
    return (
        f"{told} {formatting.network_sentence(best.finalist.params)}{_cost(best)}: {error(best)} test error"
        f" ({_basis(best, finals)}), {_stands(order, finals)}."
    )


def _cost(best: Standing) -> str:
    of = best.finalist
    unit = of.params.get("net.unit")
    parts = [] if unit is None else [f"{str(unit).replace('single', 'single-layer')} units"]
    parts += [] if of.params_count is None else [f"{formatting.magnitude(of.params_count)} parameters"]
    parts += [] if of.macs is None else [f"{formatting.magnitude(of.macs)} MACs"]
    return f" ({', '.join(parts)})" if parts else ""


def _basis(best: Standing, finals: Finals) -> str:
    n = len(best.errors)
    if n < 2:
        return f"one seed, {finals.tested_on:,} test images"
    known = f"{100 * finals.level:g} % interval {interval(best)}, " if best.interval else ""
    return f"mean ± standard deviation of {n} seeds, {known}{finals.tested_on:,} test images"


def _stands(order: Sequence[Standing], finals: Finals) -> str:
    verdict = verdict_of(order, finals)
    if verdict.next is None:
        return "the only finalist" if len(order) == 1 else "the only finalist that lost no training"
    if not verdict.close:
        probability = formatting.probability(verdict.probability)
        return (
            f"separated from the next, {_named(verdict.next, finals)} with {error(verdict.next)}"
            f" (probability {probability} that its own mean is lower)"
        )
    near = verdict.close[0]
    others = len(verdict.close) - 1
    more = f" and {formatting.plural(others, 'other')}" if others else ""
    mine, theirs = len(order[0].errors), len(near.errors)
    seeds = formatting.plural(mine, "seed") if mine == theirs else f"{mine} and {formatting.plural(theirs, 'seed')}"
    needed = "" if verdict.needed is None else f"; about {verdict.needed} of each would be needed"
    equal = "" if verdict.needed is not None or near.against is None else ", for their means are equal"
    return f"not separable from {_named(near, finals)}{more} with {seeds}{equal}{needed}"


def _named(standing: Standing, finals: Finals) -> str:
    own = name(finals, standing.finalist)
    return own if finals.compared else f"{own} ({network(standing.finalist)})"


def finals_settings(finals: Finals, paths: Sequence[str]) -> str:
    """Which finalist was chosen, with its other searched values, and how it was trained."""
    best = standings(finals)[0]
    params = best.finalist.params
    names = formatting.headings(paths)
    values = [f"{names[p]} {formatting.shown(params[p])}" for p in paths if p in params and p not in formatting.ASKED]
    what = name(finals, best.finalist)
    return (
        f"{what[:1].upper()}{what[1:]}{' with ' if values else ''}{', '.join(values)}; each seed trained for"
        f" {formatting.plural(finals.epochs, 'epoch')} on {finals.trained_on:,} images (train and validation)"
        " and tested once."
    )


def finals_caveats(summary: StudySummary, finals: Finals, trials: Sequence[TrialRecord]) -> list[str]:
    """What the sentence does not say of itself."""
    order = standings(finals)
    best, verdict = order[0], verdict_of(order, finals)
    return [
        *_picked(order, finals),
        *_told_apart(order, finals),
        _noise(best, finals),
        *_probability(best, verdict, finals),
        *_optimism(summary, best, trials),
        *_scale(finals),
    ]


def _picked(order: Sequence[Standing], finals: Finals) -> list[str]:
    if len(order) < 2:
        return []
    points = flattery(order)
    by = "" if points is None else f": by about {points:.2g} points were all alike, by less where they differ"
    picked = (
        f"It is the best of {len(order)} finalists, picked on the test images that score it, so a little optimistic"
    )
    return [f"{picked}{by}."]


def _noise(best: Standing, finals: Finals) -> str:
    images = test_set_error(best.mean or 0.0, finals.tested_on)
    told = f"another {finals.tested_on:,} test images would move it by about {images:.2g} points (standard error)"
    if best.deviation is None:
        return f"With one seed nothing is known of how much seeds change; {told}."
    return (
        f"Seeds differ by {best.deviation:.2g} points (standard deviation of {len(best.errors)});"
        f" {told}, which no number of seeds makes less. The interval is of seeds, on these images."
    )


def _told_apart(order: Sequence[Standing], finals: Finals) -> list[str]:
    if len(order) < 2:
        return []
    return [
        f"What is called separated is so over all pairs of finalists, and over all rounds of seeds, with at most"
        f" {100 * (1 - finals.level):.2g} % risk that any of it is chance."
    ]


def _probability(best: Standing, verdict: Verdict, finals: Finals) -> list[str]:
    lines: list[str] = []
    if verdict.close and verdict.next is not None and verdict.probability is not None:
        lines.append(
            f"The probability that its mean is below that of the next, {_named(verdict.next, finals)}, is"
            f" {formatting.probability(verdict.probability)}, by these trainings alone."
        )
    if verdict.needed is not None:
        lines.append(
            "How many seeds would be needed follows from the difference seen, as if it were the true one: of"
            f" {len(best.errors)} seeds, that is rough."
        )
    return lines


def _optimism(summary: StudySummary, best: Standing, trials: Sequence[TrialRecord]) -> list[str]:
    """The search's own figure of the same configuration beside its test error."""
    trial = None if best.finalist.label else finals.searched(best.finalist, trials)
    seen = None if trial is None else trial.measured
    if trial is None or seen is None or best.mean is None:
        return []
    images = wording.validation_images(summary)
    gap = best.mean - seen
    so = (
        f"{gap:.2g} points too optimistic"
        if gap > 0
        else f"{-gap:.2g} points above it, with fewer images to learn from"
        if gap < 0
        else "the same"
    )
    return [
        f"In the search the same configuration had {formatting.percent(seen, images)} validation error (one seed,"
        f" {images:,} images), {so}."
    ]


def lost(finals: Finals) -> list[str]:
    """The finalists that lost a training, and why, a sentence each."""
    return [_lost(standing, finals) for standing in standings(finals) if standing.lost]


def _lost(standing: Standing, finals: Finals) -> str:
    runs = ", ".join(
        f"seed {run.seed} {run.state.value}" + (f" ({run.reason})" if run.reason else "") for run in standing.lost
    )
    named = _named(standing, finals)
    return f"{named[:1].upper()}{named[1:]} lost {formatting.plural(len(standing.lost), 'training')}: {runs}."


def _scale(finals: Finals) -> list[str]:
    if not finals.scale:
        return []
    changed = ", ".join(
        f"{path} {formatting.shown(run)} in place of {formatting.shown(published)}"
        for path, (published, run) in finals.scale.items()
    )
    name = f" ({finals.scale_name})" if finals.scale_name else ""
    return [f"The published networks were run at another scale{name}: {changed}."]


NAMED = 5  # networks of the front that the answer's sentence names


def front_sentence(summary: StudySummary, trials: Sequence[TrialRecord]) -> str | None:
    """The answer of a study of several objectives; None where the front is not more than one network."""
    found = unbeaten(summary, trials)
    if len(found) < 2:
        return None
    images = wording.validation_images(summary)
    named = [
        f"{formatting.network_sentence(trial.params)} (trial {trial.number}: "
        f"{', '.join(wording.objective(trial, objective, images) for objective in summary.objectives)})"
        for trial in (found if len(found) <= NAMED else found[:: -(-len(found) // NAMED)])
    ]
    among = "" if len(found) <= NAMED else "among them "
    what = wording.together(summary.objectives)
    return f"{len(found)} networks are not beaten in {what}: {among}{formatting.listed(named)}."


def alone_on_the_front(summary: StudySummary, trial: TrialRecord, trials: Sequence[TrialRecord]) -> str:
    """The end of the sentence about a network that is the best in every objective; empty where none is sought."""
    if unbeaten(summary, trials) != (trial,):
        return ""
    others = [wording.OBJECTIVES[objective] for objective in summary.objectives[1:]]
    return f"; no other complete trial is better in {' or '.join(others)}"


TOP = 5  # rows of the answer's table


def sentence(summary: StudySummary, trials: Sequence[TrialRecord]) -> str:
    """The answer: which network to use and what it reached, those of the Pareto front, or why none can be named."""
    several = front_sentence(summary, trials)
    if several:
        return several
    if summary.finals is not None and not finals.running(summary):
        return finals_sentence(summary.finals)
    chosen = Trials(trials).best
    error = None if chosen is None else chosen.measured
    if chosen is None or error is None:
        return _no_network(summary, trials)
    images = wording.validation_images(summary)
    unit = chosen.params.get("net.unit")
    cost = [] if unit is None else [f"{str(unit).replace('single', 'single-layer')} units"]
    if chosen.params_count is not None:
        cost.append(f"{formatting.magnitude(chosen.params_count)} parameters")
    if chosen.macs is not None:
        cost.append(f"{formatting.magnitude(chosen.macs)} MACs")
    inner = f" ({', '.join(cost)})" if cost else ""
    wrong = round(error * images / 100)
    early = "" if chosen.state is TrialState.COMPLETE else ", where it was stopped early: no trial is complete"
    return (
        f"Use {formatting.network_sentence(chosen.params)}{inner}: {formatting.percent(error, images)} validation error"
        f" ({wrong} of {images} images) after {formatting.plural(chosen.epochs, 'epoch')}{early}"
        f"{alone_on_the_front(summary, chosen, trials)}."
    )


def of_finals(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[str]:
    """What is left to say of the finals below the sentence: that they are missing, or what they add to a front."""
    missing = finals.missing(summary)
    beside = published.comparison_sentence(summary) if summary.finals is not None and summary.finals.compared else None
    if missing is not None or beside is not None:
        return [line for line in (missing, beside) if line is not None and (trials or summary.finals)]
    if summary.finals is None or not front_sentence(summary, trials):
        return []
    return [f"Of the finalists, by error alone: {finals_sentence(summary.finals)}"]


def _no_network(summary: StudySummary, trials: Sequence[TrialRecord]) -> str:
    if summary.finals is not None and summary.finals.compared:
        return "No configuration can be recommended yet."
    if not trials and summary.stopped:
        return f"No network can be recommended: no trial was started ({summary.stopped})."
    ends = ", ".join(f"{number} {state}" for state, number in Trials(trials).counts().items() if number)
    return f"No network can be recommended: none of {formatting.plural(len(trials), 'trial')} has a result" + (
        f" ({ends})." if ends else "."
    )


def settings(summary: StudySummary, trials: Sequence[TrialRecord]) -> str:
    """The chosen trial's other searched values in one sentence; empty where there are none."""
    if summary.finals is not None and not finals.running(summary) and not front_sentence(summary, trials):
        return finals_settings(summary.finals, finals_columns(summary.finals))
    chosen = Trials(trials).best
    if chosen is None:
        return ""
    paths = [path for path in summary.space if path in chosen.params and path not in formatting.ASKED]
    names = formatting.headings(paths)
    values = ", ".join(f"{names[path]} {formatting.shown(chosen.params[path])}" for path in paths)
    found = "The lowest error was found" if unbeaten(summary, trials) else "Found"
    return f"{found} by trial {chosen.number} with {values}." if values else f"{found} by trial {chosen.number}."


def caveats(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[str]:
    """What the answer does not say of itself, a sentence each; empty where there is no answer."""
    if summary.finals is not None and not finals.running(summary) and not front_sentence(summary, trials):
        return [*finals_caveats(summary, summary.finals, trials), *_stopped(summary, trials)]
    return _of_the_search(summary, trials)


def _of_the_search(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[str]:
    chosen = Trials(trials).best
    error = None if chosen is None else chosen.measured
    if chosen is None or error is None:
        return []
    images = wording.validation_images(summary)
    peers = [trial for trial in Trials(trials).ranked() if trial.state is chosen.state]
    others = Trials(trials).rivals(images)
    kind = "complete" if chosen.state is TrialState.COMPLETE else "stopped"
    subject = "The lowest error" if unbeaten(summary, trials) else "It"
    lines = [
        "This is validation error, not test error: no trial has seen the test images.",
        f"{subject} is the best of {formatting.plural(len(peers), kind + ' trial')}, picked on the images that score"
        " it, and so optimistic; each configuration was trained once, with one seed.",
        _uncertainty(chosen, images),
    ]
    if others:
        names = ", ".join(f"trial {t.number} ({formatting.network(t.params)})" for t in others[:TOP])
        more = f" and {len(others) - TOP} more" if len(others) > TOP else ""
        lie = f"{formatting.plural(len(others), 'other configuration')} {'lies' if len(others) == 1 else 'lie'}"
        lines.append(f"{lie} within that and cannot be told from it: {names}{more}.")
    elif len(peers) > 1:
        lines.append("No other configuration lies within that.")
    if unbeaten(summary, trials) and Trials(trials).counts()["pruned"]:
        lines.append("Trials were stopped early by their error alone: cheaper networks among them were not compared.")
    return [*lines, *_stopped(summary, trials)]


def _stopped(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[str]:
    """Why there are fewer trials than were asked for, in one sentence; empty where there are not."""
    ended = len(trials) - Trials(trials).counts().get(TrialState.RUNNING, 0)
    return [f"The study ended after {ended} of {summary.trials} trials: {summary.stopped}."] if summary.stopped else []


def _uncertainty(chosen: TrialRecord, images: int) -> str:
    points = chosen.margin(images)
    if chosen.measured == 0:
        return (
            f"No image of {images} wrong is compatible with a true error of up to {points:.2g} %"
            " (95 %, the rule of three)."
        )
    return f"On {images} images its standard error is {points:.2g} points (binomial)."


def answer_markdown(summary: StudySummary, trials: Sequence[TrialRecord]) -> str:
    """Markdown: the sentence, the settings, the finalists and the best trials; for a terminal and an MLflow note.

    The trials are the five of the lowest error, or where there are several objectives all that no other beats.
    """
    parts = [sentence(summary, trials), settings(summary, trials), *of_finals(summary, trials)]
    parts += _stopped(summary, trials) if trials else []
    if summary.finals is not None:
        parts.append(finalist_table(summary.finals))
    parts += trial_table(summary, trials, unbeaten(summary, trials) or Trials(trials).ranked()[:TOP])
    return "\n\n".join(part for part in parts if part) + "\n"


def trial_table(
    summary: StudySummary, trials: Sequence[TrialRecord], of: Sequence[TrialRecord] | None = None
) -> list[str]:
    """The ranked trials, or `of` them, as one Markdown table in a list; an empty list where no trial has a result."""
    order = Trials(trials).ranked()
    if not order:
        return []
    shown = {trial.number for trial in (order if of is None else of)}
    speed = Objective.IMAGES_PER_S in summary.objectives
    images = wording.validation_images(summary)
    paths = wording.columns(summary, trials)
    costs = ("epochs", "val error", "params", "MACs", "time", *(["images/s"] if speed else []))
    rows = [
        (
            str(rank),
            str(trial.number),
            *(formatting.shown(trial.params.get(path)) for path in paths),
            f"{trial.epochs} of {summary.epochs}",
            formatting.percent(trial.measured, images),
            formatting.magnitude(trial.params_count),
            formatting.magnitude(trial.macs),
            formatting.duration(trial.seconds),
            *([f"{trial.images_per_s or 0:,.0f}"] if speed else []),
        )
        for rank, trial in enumerate(order, start=1)
        if trial.number in shown
    ]
    head = ("rank", "trial", *formatting.headings(paths).values(), *costs)
    return [table(head, rows, numeric=("rank", "trial", *costs))]


def importance_basis(summary: StudySummary, trials: Sequence[TrialRecord]) -> str:
    """On what the importances rest: how many trials, compared at which epoch."""
    reached = len(Trials(trials).at(summary.first_rung))
    drawn = f"{MOST_TRIALS} of the " if reached > MOST_TRIALS else "the "
    return (
        f"Share of the variance of the error at epoch {summary.first_rung} that each parameter explains, over {drawn}"
        f"{formatting.plural(reached, 'trial')} that reached it: an equal budget for all, and early."
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
    cost = device_hours(summary, trials)
    return [] if cost is None else [(cost.unit, shown(cost.total))]


def facts_of_study(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[tuple[str, str]]:
    """Settings and environment as pairs of name and value."""
    found = ", ".join(f"{number} {state}" for state, number in Trials(trials).counts().items() if number)
    searched = (
        []
        if summary.finals is not None and summary.finals.compared
        else [
            ("trials", f"{len(trials)} of {summary.trials}{': ' if found else ''}{found}"),
            ("epochs", f"{summary.epochs}, at least {summary.first_rung} before a trial may be stopped"),
            ("objectives", formatting.listed([wording.OBJECTIVES[objective] for objective in summary.objectives])),
            ("sampler, scheduler, seed", f"{summary.sampler}, {summary.scheduler}, {summary.seed}"),
        ]
    )
    cost = device_hours(summary, trials)
    return [
        *searched,
        *((f"limit: {name}", f"{value:,}") for name, value in summary.limits.items()),
        *([] if summary.finals is None else [("finals", extent(summary.finals))]),
        ("wall time", formatting.duration(summary.elapsed_seconds)),
        ("training time", formatting.duration(_seconds(summary, trials))),
        *([] if cost is None else [("cost", device_sentence(cost))]),
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


HEADLINES = {
    TrialState.PRUNED: "stopped early",
    TrialState.FAILED: "failed",
    TrialState.INFEASIBLE: "infeasible here",
    TrialState.DIVERGED: "diverged",
}

LIMITS = {
    "params": "params above {:,}",
    "macs": "macs above {:,}",
    "activation_memory": "activation_memory above {:,} bytes",
    "signal": "the gradient cannot reach the first unit",
}


def not_finished(trials: Sequence[TrialRecord]) -> dict[TrialState, list[TrialRecord]]:
    """Trials that ended before their last epoch, by state and number; states without one are left out."""
    by_state = {
        state: sorted((trial for trial in trials if trial.state is state), key=lambda trial: trial.number)
        for state in HEADLINES
    }
    return {state: found for state, found in by_state.items() if found}


def reasons(trials: Sequence[TrialRecord]) -> list[tuple[str, int]]:
    """Reasons why trials ended early and how many each has, the most frequent first.

    Of those that were stopped, only when: each has a rank of its own, which the table tells.
    """
    return Counter(
        f"after {formatting.plural(trial.epochs, 'epoch')}"
        if trial.state is TrialState.PRUNED
        else trial.reason or "no reason recorded"
        for trial in trials
    ).most_common()


def beyond_limits(summary: StudySummary, refused: Sequence[TrialRecord]) -> str | None:
    """How many proposals were refused and why, in a sentence; None where none was."""
    if not refused:
        return None
    counted = [(limit, sum(limit in trial.exceeded for trial in refused)) for limit in LIMITS]
    parts = [f"{LIMITS[limit].format(summary.limits[limit])}: {number}" for limit, number in counted if number]
    why = f" ({'; '.join(parts)})" if parts else ""
    were = "was" if len(refused) == 1 else "were"
    return f"{formatting.plural(len(refused), 'proposal')} {were} beyond the limits{why} and never trained."

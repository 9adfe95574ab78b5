"""What the finals of a study say, in sentences."""

from collections.abc import Sequence

from search import report_facts as facts
from search import report_finals as finals_of
from search import report_words as words
from search.records import Finals, StudySummary, TrialRecord
from search.report_finals import Standing
from search.statistics import test_set_error


def sentence(finals: Finals) -> str:
    """The answer of finals that are complete and have a champion."""
    order = finals_of.standings(finals)
    best = order[0]
    told = f"Of {len(order)} configurations compared, use" if finals.compared else "Use"
    return (
        f"{told} {words.network_sentence(best.finalist.params)}{_cost(best)}: {error(best)} test error"
        f" ({_basis(best, finals)}), {_stands(order, finals)}."
    )


def error(standing: Standing) -> str:
    """`1.39 ± 0.31 %`: mean and standard deviation."""
    spread = "" if standing.deviation is None else f" ± {words.points(standing.deviation)}"
    return words.ABSENT if standing.mean is None else f"{words.points(standing.mean)}{spread} %"


def interval(standing: Standing) -> str:
    """`1.01 to 1.77`."""
    found = standing.interval
    return words.ABSENT if found is None else f"{words.points(found.low)} to {words.points(found.high)}"


def _cost(best: Standing) -> str:
    of = best.finalist
    unit = of.params.get("net.unit")
    parts = [] if unit is None else [f"{str(unit).replace('single', 'single-layer')} units"]
    parts += [] if of.params_count is None else [f"{words.magnitude(of.params_count)} parameters"]
    parts += [] if of.macs is None else [f"{words.magnitude(of.macs)} MACs"]
    return f" ({', '.join(parts)})" if parts else ""


def _basis(best: Standing, finals: Finals) -> str:
    n = len(best.errors)
    if n < 2:
        return f"one seed, {finals.tested_on:,} test images"
    known = f"{100 * finals.level:g} % interval {interval(best)}, " if best.interval else ""
    return f"mean ± standard deviation of {n} seeds, {known}{finals.tested_on:,} test images"


def _stands(order: Sequence[Standing], finals: Finals) -> str:
    verdict = finals_of.verdict(order, finals)
    if verdict.next is None:
        return "the only finalist" if len(order) == 1 else "the only finalist that lost no training"
    if not verdict.close:
        probability = words.probability(verdict.probability)
        return (
            f"separated from the next, {_named(verdict.next, finals)} with {error(verdict.next)}"
            f" (probability {probability} that its own mean is lower)"
        )
    near = verdict.close[0]
    others = len(verdict.close) - 1
    more = f" and {words.plural(others, 'other')}" if others else ""
    mine, theirs = len(order[0].errors), len(near.errors)
    seeds = words.plural(mine, "seed") if mine == theirs else f"{mine} and {words.plural(theirs, 'seed')}"
    needed = "" if verdict.needed is None else f"; about {verdict.needed} of each would be needed"
    equal = "" if verdict.needed is not None or near.against is None else ", for their means are equal"
    return f"not separable from {_named(near, finals)}{more} with {seeds}{equal}{needed}"


def _named(standing: Standing, finals: Finals) -> str:
    own = finals_of.name(finals, standing.finalist)
    return own if finals.compared else f"{own} ({finals_of.network(standing.finalist)})"


def settings(finals: Finals, paths: Sequence[str]) -> str:
    """Which finalist was chosen, with its other searched values, and how it was trained."""
    best = finals_of.standings(finals)[0]
    params = best.finalist.params
    names = words.headings(paths)
    values = [f"{names[p]} {words.shown(params[p])}" for p in paths if p in params and p not in words.ASKED]
    what = finals_of.name(finals, best.finalist)
    return (
        f"{what[:1].upper()}{what[1:]}{' with ' if values else ''}{', '.join(values)}; each seed trained for"
        f" {words.plural(finals.epochs, 'epoch')} on {finals.trained_on:,} images (train and validation)"
        " and tested once."
    )


def caveats(summary: StudySummary, finals: Finals, trials: Sequence[TrialRecord]) -> list[str]:
    """What the sentence does not say of itself."""
    order = finals_of.standings(finals)
    best, verdict = order[0], finals_of.verdict(order, finals)
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
    points = finals_of.flattery(order)
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


def _probability(best: Standing, verdict: finals_of.Verdict, finals: Finals) -> list[str]:
    lines: list[str] = []
    if verdict.close and verdict.next is not None and verdict.probability is not None:
        lines.append(
            f"The probability that its mean is below that of the next, {_named(verdict.next, finals)}, is"
            f" {words.probability(verdict.probability)}, by these trainings alone."
        )
    if verdict.needed is not None:
        lines.append(
            "How many seeds would be needed follows from the difference seen, as if it were the true one: of"
            f" {len(best.errors)} seeds, that is rough."
        )
    return lines


def _optimism(summary: StudySummary, best: Standing, trials: Sequence[TrialRecord]) -> list[str]:
    """The search's own figure of the same configuration beside its test error."""
    trial = None if best.finalist.label else finals_of.searched(best.finalist, trials)
    seen = None if trial is None else facts.measured(trial)
    if trial is None or seen is None or best.mean is None:
        return []
    images = words.validation_images(summary)
    gap = best.mean - seen
    so = (
        f"{gap:.2g} points too optimistic"
        if gap > 0
        else f"{-gap:.2g} points above it, with fewer images to learn from"
        if gap < 0
        else "the same"
    )
    return [
        f"In the search the same configuration had {words.percent(seen, images)} validation error (one seed,"
        f" {images:,} images), {so}."
    ]


def lost(finals: Finals) -> list[str]:
    """The finalists that lost a training, and why, a sentence each."""
    return [_lost(standing, finals) for standing in finals_of.standings(finals) if standing.lost]


def _lost(standing: Standing, finals: Finals) -> str:
    runs = ", ".join(
        f"seed {run.seed} {run.state.value}" + (f" ({run.reason})" if run.reason else "") for run in standing.lost
    )
    named = _named(standing, finals)
    return f"{named[:1].upper()}{named[1:]} lost {words.plural(len(standing.lost), 'training')}: {runs}."


def _scale(finals: Finals) -> list[str]:
    if not finals.scale:
        return []
    changed = ", ".join(
        f"{path} {words.shown(run)} in place of {words.shown(published)}"
        for path, (published, run) in finals.scale.items()
    )
    name = f" ({finals.scale_name})" if finals.scale_name else ""
    return [f"The published networks were run at another scale{name}: {changed}."]

"""The answer in words: one sentence, how it was found, and how far to trust it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search import formatting
from search.formatting import plural
from search.records import Finalist, Finals, TrialRecord, TrialState
from search.report import published, wording
from search.report.finals import LOST, Standing, flattery, name
from search.report.published import Order
from search.spec import Objective
from search.statistics import beats_guessing

if TYPE_CHECKING:
    from search.report.analysis import Analysis

NAMED = 5  # networks that a sentence names


@dataclass(frozen=True)
class Answer:
    """What a reader is told before any table."""

    sentence: str  # which network to use and what it reached, those of the Pareto front, or why none can be named
    settings: str  # how it was found; empty where there is none
    more: tuple[str, ...]  # what is missing, or beside it
    caveats: tuple[str, ...]  # how far to trust it, a sentence each; empty where there is no answer
    stopped: str  # why there are fewer trials than were asked for; empty where there are not
    gain: str  # what more search is expected to bring; empty where nothing can be said


def answer(of: "Analysis") -> Answer:
    """The words of a study. A Pareto front of several networks comes before the champion, and that before a trial."""
    nothing, several = _nothing(of), len(of.front) > 1
    if nothing:
        return Answer(nothing, "", _more(of, False), (), _stopped(of), _gain(of))
    settled = None if several else of.settled
    stopped = _stopped(of)
    caveats = _caveats_of_finals(of, settled) if settled else _caveats_of_search(of)
    sentence = _finals_sentence(of, settled) if settled else _search_sentence(of)
    return Answer(
        _front_sentence(of) if several else sentence,
        _finals_settings(of, settled) if settled else _search_settings(of),
        _more(of, several),
        (*caveats, stopped) if stopped and caveats else tuple(caveats),
        stopped,
        _gain(of),
    )


def _guessing(of: "Analysis", finals: Finals) -> Standing | None:
    """The best of finalists that were all tested, where none of them is better than guessing."""
    sound = [one for one in of.standings if len(one.errors) >= finals.seeds and not one.lost]
    able = any(finals.beats_guessing(one.mean or 0.0) for one in sound)
    return sound[0] if sound and finals.complete and not able else None


def _nothing(of: "Analysis") -> str | None:
    """That no network is better than guessing, of those tested or else of the search; None where one is."""
    finals, best, guess_of_search = of.summary.finals, of.best, of.summary.guess
    if of.settled is not None:
        return None
    if finals is not None and (first := _guessing(of, finals)):
        seen, guess = f"{of.tested} of the finalists, {first.error}", finals.guess
    elif best is not None and best.measured is not None:
        seen, guess = f"{of.validated}, {formatting.percent(best.measured, of.images)}", guess_of_search
        if beats_guessing(best.measured, guess, of.summary.effective):
            return None
    else:
        return None
    named = f"always naming the largest class ({guess:.1f} %)"
    return f"Nothing is recommended: the lowest {seen}, is no better than {named}."


def _costs(of: TrialRecord | Finalist) -> str:
    """`, of basic units, 0.27M parameters and 41M MACs,`."""
    costs = [f"{unit} units".replace("single", "single-layer")] if (unit := of.params.get("net.unit")) else []
    costs += [] if of.params_count is None else [f"{formatting.magnitude(of.params_count)} parameters"]
    costs += [] if of.macs is None else [f"{formatting.magnitude(of.macs)} MACs"]
    costs += [] if of.latency_ms is None else [f"a latency of {formatting.milliseconds(of.latency_ms)}"]
    return f", of {formatting.listed(costs)}," if costs else ""


def _finals_sentence(of: "Analysis", finals: Finals) -> str:
    best = of.standings[0]
    return f"Use {formatting.network_sentence(best.finalist.params)}: {best.error} {of.tested}; {_stands(of, finals)}."


def _stands(of: "Analysis", finals: Finals) -> str:
    """How the champion stands to the others, as a clause."""
    verdict = of.verdict
    if verdict is None or verdict.next is None:
        return "the only finalist" if len(of.standings) == 1 else "the only finalist that lost no training"
    if not verdict.close:
        return f"separated from the next, {_short(of, verdict.next, finals)} with {verdict.next.error}"
    near, *more = verdict.close
    dearer = _dearer(of.standings[0], verdict.close, finals)
    if more:
        return f"{len(verdict.close)} others{dearer} are not distinguishable"
    return f"{_short(of, near, finals)}{dearer} is not distinguishable"


def _short(of: "Analysis", standing: Standing, finals: Finals) -> str:
    """The network alone where that tells it from the champion, and what the study calls it otherwise."""
    network = formatting.network(standing.finalist.params)
    same = finals.compared or network == formatting.network(of.standings[0].finalist.params)
    return name(finals, standing.finalist) if same else network


def _dearer(champion: Standing, others: Sequence[Standing], finals: Finals) -> str:
    """`, at 2.0 times the MACs,`; `, at up to 2.0 times the MACs,` of several."""
    own = champion.finalist.cost(finals.cost)
    costs = [cost for one in others if (cost := one.finalist.cost(finals.cost))]
    if not own or not costs:
        return ""
    ratio = f"{max(costs) / own:.1f}"
    what = "training time" if finals.cost is Objective.IMAGES_PER_S else wording.OBJECTIVES[finals.cost]
    if ratio == "1.0":
        return f", at the same {what},"
    return f", at {'up to ' if len(others) > 1 else ''}{ratio} times the {what},"


def _front_sentence(of: "Analysis") -> str:
    """The ends of the front, by the first objective beside the error; a table has the others."""
    found, objectives = of.front, of.summary.objectives
    ends: list[str] = []
    for trial in (found[0], found[-1]):
        reached = ", ".join(wording.objective(trial, objective, of.images) for objective in objectives[:2])
        ends.append(f"{formatting.network(trial.params)} ({reached})")
    return f"{len(found)} networks are not beaten in {wording.together(objectives)}: from {ends[0]} to {ends[1]}."


def _search_sentence(of: "Analysis") -> str:
    chosen, images = of.best, of.images
    if chosen is None or (error := chosen.measured) is None:
        return _no_network(of)
    early = "" if chosen.state is TrialState.COMPLETE else ", where it was stopped early: no trial is complete"
    others = [wording.OBJECTIVES[objective] for objective in of.summary.objectives[1:]]
    alone = f"; no other complete trial is better in {' or '.join(others)}" if of.front == (chosen,) else ""
    counted = f"{round(error * images / 100)} of {images} images"
    if of.summary.measure != "error":
        classes = sum(n > 0 for n in of.summary.data["counts_validation"])
        counted = f"the mean of {classes} classes, {images} images"
    return (
        f"Use {formatting.network_sentence(chosen.params)}: {formatting.percent(error, images)}"
        f" {of.validated} ({counted}) after {plural(chosen.epochs, 'epoch')}"
        f"{early}{alone}."
    )


def _no_network(of: "Analysis") -> str:
    if of.compares:
        return "No configuration can be recommended yet."
    if not of.trials and of.summary.stopped:
        return f"No network can be recommended: no trial was started ({of.summary.stopped})."
    ends = ", ".join(f"{number} {state}" for state, number in of.trials.counts().items() if number)
    why = f" ({ends})" if ends else ""
    return f"No network can be recommended: none of {plural(len(of.trials), 'trial')} has a result{why}."


def _finals_settings(of: "Analysis", finals: Finals) -> str:
    """Which finalist was chosen, with its interval, costs and other values, and how it was trained."""
    best, n = of.standings[0].finalist, len(of.standings[0].errors)
    known = f", {100 * finals.level:g} % interval {of.standings[0].between}" if of.standings[0].interval else ""
    basis = f"One seed on {finals.tested_on:,} test images"
    if n > 1:
        basis = f"Mean ± standard deviation of {n} seeds on {finals.tested_on:,} test images{known}"
    paths = [path for path in wording.finals_columns(finals) if finals.compared or not path.startswith("net.")]
    costs = _costs(best)
    chosen = f"{name(finals, best)}{costs}{_values(best.params, paths)}".rstrip(",")
    images = f"{finals.trained_on:,} images (train and validation)"
    trained = f"each seed trained for {plural(finals.epochs, 'epoch')} on {images} and tested once"
    return f"{basis}. {wording.begun(chosen)}; {trained}."


def _search_settings(of: "Analysis") -> str:
    """The best trial with its other searched values."""
    if of.best is None:
        return ""
    found = "The lowest error was found" if of.front else "Found"
    best = of.best
    costs = _costs(best)
    values = _values(best.params, list(of.summary.space))
    return f"{f'{found} by trial {best.number}{costs}{values}'.rstrip(',')}."


def _values(params: Mapping[str, Any], paths: Sequence[str]) -> str:
    """` with lr 0.142, weight decay 1.49e-05`: those of `paths` that the network's name does not say."""
    known = [path for path in paths if path in params and path not in formatting.ASKED]
    values = [f"{name} {formatting.shown(params[path])}" for path, name in formatting.headings(known).items()]
    return f" with {', '.join(values)}" if values else ""


def _more(of: "Analysis", several: bool) -> tuple[str, ...]:
    missing, orders = missing_finals(of), [one.order for one in of.comparisons.values() if one.order]
    told = [missing] if missing and (of.trials or of.summary.finals) else []
    if orders:
        same, other, near = (orders.count(order) for order in Order)
        ends = f"{same} found here too, {other} the other way round, {near} not told apart"
        told.append(f"Of {plural(len(orders), 'published order')}: {ends}.")
    if several and of.settled:
        told.append(f"Of the finalists: {_finals_sentence(of, of.settled)}")
    if of.settled and (beside := _beside(of, of.settled)):
        told.append(beside)
    if of.summary.missing_weights:
        told.append(f"{of.summary.missing_weights}.")
    return tuple(told)


def _beside(of: "Analysis", finals: Finals) -> str:
    """How the champion goes with the lowest mean of the finalists, the best of the search and the front."""
    champion = of.standings[0]
    told: list[str] = []
    lowest = of.verdict.close[0] if of.verdict and of.verdict.close else None
    if lowest is not None and (lowest.mean or 0.0) < (champion.mean or 0.0):
        room = "" if lowest.against is None else f"; the two may be {-lowest.against.low:.2g} points apart"
        told.append(f"The lowest mean is {lowest.error}, of {name(finals, lowest.finalist)}, at no lower cost{room}.")
    elif lowest is not None and of.verdict and of.verdict.needed:
        told.append(f"About {of.verdict.needed} seeds of each would tell it from {name(finals, lowest.finalist)}.")
    if of.best is not None and of.best is not of.chosen and not finals.compared:
        reached = formatting.percent(of.best.measured, of.images)
        first = f"{formatting.network(of.best.params)} (trial {of.best.number})"
        told.append(f"The search alone put {first} first, with {reached} {of.validated}, each trial trained once.")
    return " ".join(told)


def missing_finals(of: "Analysis") -> str | None:
    """What the finals lack, in a sentence; None where nothing is missing, or none were asked for."""
    finals = of.summary.finals
    if finals is None:
        return f"The finals have not begun: no {of.tested} is known yet." if of.summary.finals_asked else None
    if of.settled:
        return None
    runs = [run for finalist in finals.finalists for run in finalist.runs]
    if finals.complete and all(any(run.state in LOST for run in one.runs) for one in finals.finalists):
        ends = ", ".join(f"{count} {state}" for state in LOST if (count := sum(run.state is state for run in runs)))
        return f"The finals name no champion: every finalist lost a training ({ends})."
    if _guessing(of, finals):
        return "The finals name no champion: no finalist is better than guessing the largest class."
    done = sum(run.test_error is not None for run in runs)
    least = max(len(finals.finalists) * finals.seeds, len(runs))
    return f"The finals are not complete: {done} of at least {least} trainings are tested."


def _caveats_of_finals(of: "Analysis", finals: Finals) -> list[str]:
    order, best = of.standings, of.standings[0]
    told: list[str] = []
    if len(order) > 1 and best.rank == 1:
        points = flattery(order)
        by = "" if points is None else f", by about {points:.2g} points if all are equal"
        picked = f"The best of {len(order)} finalists is picked on the test images that score it"
        told.append(f"{picked}: its error is optimistic{by}.")
    if len(order) > 1:
        level = f"{100 * finals.level:.3g} %"
        sure = f"What is called separated is so with {level} confidence, over all pairs and seeds together"
        told.append(f"{sure}; not distinguishable does not mean equal.")
    images = of.test_set_error
    seeds = "" if best.deviation is None else f"Seeds differ by {best.deviation:.2g} points (standard deviation); "
    other = f"another {finals.tested_on:,} test images would move the error by about {images:.2g} points."
    told.append(f"{seeds}{other}" if seeds else f"One seed says nothing of other seeds; {other}")
    told += _optimism(of, best)
    if finals.scale:
        named = f" ({finals.scale_name})" if finals.scale_name else ""
        told.append(f"At another scale{named} than published: {published.changed(finals.scale)}.")
    return told


def _optimism(of: "Analysis", best: Standing) -> list[str]:
    """The search's own figure of the same configuration beside its test error."""
    trial = next((t for t in of.trials if t.number == best.finalist.number and best.finalist.label is None), None)
    seen = None if trial is None else trial.measured
    if seen is None or best.mean is None:
        return []
    gap = best.mean - seen
    so = f"{gap:.2g} points less" if gap > 0 else f"{-gap:.2g} points more" if gap < 0 else "the same"
    return [f"Its {of.validated} in the search was {formatting.percent(seen, of.images)}, {so}."]


def _caveats_of_search(of: "Analysis") -> list[str]:
    chosen = of.best
    if chosen is None:
        return []
    peers = [trial for trial in of.trials.ranked() if trial.state is chosen.state]
    kind = "complete trial" if chosen.state is TrialState.COMPLETE else "stopped trial"
    best = f"the best of {plural(len(peers), kind)}, each trained once, and so optimistic"
    told = [f"This is {of.validated}, not {of.tested}: of {best}.", _uncertainty(of, chosen)]
    others = of.trials.rivals(of.summary.effective)
    if others:
        names = ", ".join(f"trial {t.number} ({formatting.network(t.params)})" for t in others[:NAMED])
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        lie = f"{plural(len(others), 'other configuration')} {'lies' if len(others) == 1 else 'lie'}"
        told.append(f"{lie} within that and cannot be told from it: {names}{more}.")
    elif len(peers) > 1:
        told.append("No other configuration lies within that.")
    if of.front and of.trials.counts()["pruned"]:
        told.append("Trials were stopped early by their error alone: cheaper networks among them were not compared.")
    return told


def _uncertainty(of: "Analysis", chosen: TrialRecord) -> str:
    points, images = chosen.margin(of.summary.effective), of.images
    if chosen.measured == 0:
        return f"No wrong image of {images} is compatible with a true error of up to {points:.2g} % (95 %)."
    return f"On {images} images its standard error is {points:.2g} points."


def _stopped(of: "Analysis") -> str:
    ended = len(of.trials) - of.trials.counts().get(TrialState.RUNNING, 0)
    why = of.summary.stopped
    return f"The study ended after {ended} of {of.summary.trials} trials: {why}." if why and of.trials else ""


def _gain(of: "Analysis") -> str:
    gain = of.summary.gain
    return f"More search: {gain}. That is {of.validated}, and holds over many searches, not for each." if gain else ""

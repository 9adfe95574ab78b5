"""What a report says of several objectives: the networks that no other beats in all of them."""

from collections.abc import Sequence

from search import report_words as words
from search.pareto import front
from search.records import StudySummary, TrialRecord

NAMED = 5  # networks of the front that the answer's sentence names


def unbeaten(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The Pareto front of a study of several objectives; empty where there is one alone."""
    return front(trials, summary.objectives) if len(summary.objectives) > 1 else []


def front_sentence(summary: StudySummary, trials: Sequence[TrialRecord]) -> str | None:
    """The answer of a study of several objectives; None where the front is not more than one network."""
    found = unbeaten(summary, trials)
    if len(found) < 2:
        return None
    images = words.validation_images(summary)
    named = [
        f"{words.network_sentence(trial.params)} (trial {trial.number}: "
        f"{', '.join(words.objective(trial, objective, images) for objective in summary.objectives)})"
        for trial in (found if len(found) <= NAMED else found[:: -(-len(found) // NAMED)])
    ]
    among = "" if len(found) <= NAMED else "among them "
    return (
        f"{len(found)} networks are not beaten in {words.together(summary.objectives)}: {among}{words.listed(named)}."
    )


def alone_on_the_front(summary: StudySummary, trial: TrialRecord, trials: Sequence[TrialRecord]) -> str:
    """The end of the sentence about a network that is the best in every objective; empty where none is sought."""
    if unbeaten(summary, trials) != [trial]:
        return ""
    others = [words.OBJECTIVES[objective] for objective in summary.objectives[1:]]
    return f"; no other complete trial is better in {' or '.join(others)}"

"""Which trials did not run to their end and why, and which proposals never became one."""

from collections import Counter
from collections.abc import Sequence

from search import report_facts as facts
from search import report_words as words
from search.records import StudySummary, TrialRecord, TrialState

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
        for state in facts.ENDED[1:]
    }
    return {state: found for state, found in by_state.items() if found}


def reasons(trials: Sequence[TrialRecord]) -> list[tuple[str, int]]:
    """Reasons why trials ended early and how many each has, the most frequent first.

    Of those that were stopped, only when: each has a rank of its own, which the table tells.
    """
    return Counter(
        f"after {words.plural(trial.epochs, 'epoch')}"
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
    return f"{words.plural(len(refused), 'proposal')} {were} beyond the limits{why} and never trained."

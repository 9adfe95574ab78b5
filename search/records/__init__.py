"""What has happened in a study: its ledger, and what follows from it."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.records.folder import Owner, StudyFolder, check_apart, outbox_file
    from search.records.ledger import SUFFIX, Asked, Ledger, answering, open_storage, read, read_journal
    from search.records.records import (
        OUT_OF_SHARE,
        WORST,
        Finalist,
        Finals,
        SeedRun,
        StudySummary,
        Surroundings,
        TrialRecord,
        TrialState,
        described,
        finished,
        note,
        noted,
        over,
        stopped,
    )
    from search.records.trials import (
        ENDED,
        RANKED,
        Standings,
        Trials,
        at_epoch,
        best,
        better,
        counts,
        effect,
        finite_curve,
        front,
        lowest,
        margin,
        measured,
        middle,
        objective_value,
        own,
        ranked,
        result,
        rivals,
        sort_key,
        to_be_small,
        without_refused,
    )

__all__ = [
    "ENDED",
    "OUT_OF_SHARE",
    "RANKED",
    "SUFFIX",
    "WORST",
    "Asked",
    "Finalist",
    "Finals",
    "Ledger",
    "Owner",
    "SeedRun",
    "Standings",
    "StudyFolder",
    "StudySummary",
    "Surroundings",
    "TrialRecord",
    "TrialState",
    "Trials",
    "answering",
    "at_epoch",
    "best",
    "better",
    "check_apart",
    "counts",
    "described",
    "effect",
    "finished",
    "finite_curve",
    "front",
    "lowest",
    "margin",
    "measured",
    "middle",
    "note",
    "noted",
    "objective_value",
    "open_storage",
    "outbox_file",
    "over",
    "own",
    "ranked",
    "read",
    "read_journal",
    "result",
    "rivals",
    "sort_key",
    "stopped",
    "to_be_small",
    "without_refused",
]

__getattr__ = lazy(
    __name__,
    folder="Owner StudyFolder check_apart outbox_file",
    ledger="Asked Ledger SUFFIX answering open_storage read read_journal",
    records=(
        "Finalist Finals OUT_OF_SHARE SeedRun StudySummary Surroundings TrialRecord TrialState WORST "
        "described finished note noted over stopped"
    ),
    trials=(
        "ENDED RANKED Standings Trials at_epoch best better counts effect finite_curve front lowest margin "
        "measured middle objective_value own ranked result rivals sort_key to_be_small without_refused"
    ),
)

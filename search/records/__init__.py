"""What has happened in a study: its ledger, and what follows from it."""
# pyright: reportUnusedImport=false

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.records.conclusion import Champion, Conclusion
    from search.records.ends import Course, End, Spent
    from search.records.folder import StudyFolder
    from search.records.journal import answering, open_storage, read_journal
    from search.records.ledger import Asked, Ledger
    from search.records.stored import StoredStudy
    from search.records.summary import Environment, Finalist, Finals, SeedRun, StudySummary
    from search.records.trial import Metrics, Start, TrialRecord, TrialState
    from search.records.trials import Standings, Trials
else:
    __getattr__ = lazy(
        __name__,
        conclusion="Champion Conclusion",
        ends="Course End Spent",
        folder="StudyFolder",
        journal="answering open_storage read_journal",
        ledger="Asked Ledger",
        stored="StoredStudy",
        summary="Environment Finalist Finals SeedRun StudySummary",
        trial="Metrics Start TrialRecord TrialState",
        trials="Standings Trials",
    )

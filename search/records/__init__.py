"""What has happened in a study: its ledger, and what follows from it."""
# pyright: reportUnusedImport=false

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.records.conclusion import Champion, Conclusion
    from search.records.folder import Owner, StudyFolder
    from search.records.ledger import Asked, Ledger, answering, open_storage, read_journal
    from search.records.stored import StoredStudy, identity
    from search.records.summary import Environment, Finalist, Finals, SeedRun, StudySummary
    from search.records.trial import Metrics, TrialRecord, TrialState
    from search.records.trials import Standings, Trials
else:
    __getattr__ = lazy(
        __name__,
        conclusion="Champion Conclusion",
        folder="Owner StudyFolder",
        ledger="Asked Ledger answering open_storage read_journal",
        stored="StoredStudy identity",
        summary="Environment Finalist Finals SeedRun StudySummary",
        trial="Metrics TrialRecord TrialState",
        trials="Standings Trials",
    )

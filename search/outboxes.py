"""What a study has for MLflow: its own events, and what is left of the studies before it was changed."""

from collections.abc import Mapping
from dataclasses import dataclass

from search.data_spec import PreparedInfo
from search.outbox import Dataset, Event, Outbox
from search.study_folder import StudyFolder
from search.study_spec import StudySpec, flatten
from search.tracking import Tracker, TrackingError
from search.tracking_state import is_behind

IDLE_SECONDS, HURRIED_SECONDS = 30.0, 5.0  # how long is waited for a server that takes nothing


@dataclass(frozen=True)
class Outboxes:
    """The outboxes in a study's folder, and where they are sent."""

    spec: StudySpec
    info: PreparedInfo
    folder: StudyFolder
    generation: int  # of the study as it is now
    keys: Mapping[int, str]  # generation -> key of the study
    uri: str
    artifact_root: str | None  # of a new experiment; None leaves it to the server

    @property
    def unsent(self) -> int:
        """Events that MLflow has not taken, of all generations."""
        return sum(self._unsent(generation) for generation in range(1, self.generation + 1))

    def last(self, count: int) -> list[Event]:
        """The last events of the study as it is now, sent or not."""
        outbox = Outbox(self.folder.outbox(self.generation))
        try:
            return outbox.last(count)
        finally:
            outbox.close()

    def behind(self, study_too: bool = False) -> bool:
        """Whether MLflow lacks something that it was sent: its database was deleted, or restored from an older copy.

        What a user has deleted there is not missing; with `study_too` a study's run is.
        """
        return any(self._behind(generation, study_too) for generation in range(1, self.generation + 1))

    def tracker(self, generation: int | None = None) -> Tracker:
        """Begins to send; default: of the study as it is now."""
        which = generation or self.generation
        outbox, experiment = Outbox(self.folder.outbox(which), self.folder.forced), self.spec.tracking.experiment
        return Tracker(outbox, self.uri, experiment, self.keys[which], self.artifact_root)

    def announce(self, tracker: Tracker) -> None:
        """The study starts, or goes on."""
        params = {path: str(value) for path, value in flatten(self.spec.public()).items()}
        tracker.study_started(self.spec.name, params, dataset=self.dataset())

    def dataset(self, finals: bool = False) -> Dataset:
        """What trials are trained on, or finalists: train and validation together."""
        info = self.info
        shape = " x ".join(map(str, info.shape))
        splits = {"train": info.n_train, "validation": info.n_validation}
        trained = {"train + validation": sum(splits.values())} if finals else splits
        name = info.name.rpartition(":")[0] or info.name
        profile = {**trained, "test": info.n_test, "shape": shape}
        named = {"name": f"{name} finals", "context": "train + validation"} if finals else {"name": name}
        return Dataset(digest=info.digest[:32], source=info.name, profile=profile, **named)

    def send_earlier(self) -> str | None:
        """Sends what is left of the studies before this one; why it could not be sent, or None."""
        trouble = None
        for generation in range(1, self.generation):
            if self._unsent(generation) or self._behind(generation):
                tracker = self.tracker(generation)
                trouble = send(tracker, patient=True) or trouble
                tracker.close()
        return trouble

    def _behind(self, generation: int, study_too: bool = False) -> bool:
        outbox = Outbox(self.folder.outbox(generation))
        try:
            return is_behind(outbox, self.uri, self.spec.tracking.experiment, self.keys[generation], study_too)
        finally:
            outbox.close()

    def _unsent(self, generation: int) -> int:
        outbox = Outbox(self.folder.outbox(generation))
        try:
            return outbox.unsent
        finally:
            outbox.close()


def send(tracker: Tracker, patient: bool) -> str | None:
    """Waits until MLflow has everything; why it has not. If not `patient`, for seconds at most."""
    try:
        left = tracker.drain(IDLE_SECONDS if patient else HURRIED_SECONDS, patient)
    except TrackingError as refused:
        return str(refused)
    return f"MLflow has not taken {left} events ({tracker.trouble() or 'it is slow'})" if left else None

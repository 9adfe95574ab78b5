"""A study's trials by number, and their order after every epoch, kept as they arrive: it is asked at every decision."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from search.records import WORST, TrialRecord, TrialState

Place = tuple[float, int]  # error in percent, number of the trial


class Standings:
    """Trials by number, in the order in which they came, compared after equal numbers of epochs.

    Args:
        records: to begin with.
    """

    def __init__(self, records: Iterable[TrialRecord] = ()) -> None:
        self._records: dict[int, TrialRecord] = {}
        self._reached: defaultdict[int, list[Place]] = defaultdict(list)  # epoch -> best first
        self._diverged: list[TrialRecord] = []
        self._counted: Callable[[int], bool] | None = None
        for record in records:
            self.put(record)

    def put(self, record: TrialRecord) -> None:
        """Adds a trial, or what has become of one: epochs may have come to its curve, none changes."""
        before = self._records.get(record.number)
        for epoch in record.curve.keys() - (before.curve.keys() if before else ()):
            insort(self._reached[epoch], (record.curve[epoch], record.number))
        if record.state is TrialState.DIVERGED and (before is None or before.state is not TrialState.DIVERGED):
            self._diverged.append(record)
        self._records[record.number] = record

    def at(self, epoch: int) -> Sequence[Place]:
        """`TrialRecord.error_at` of all trials that have one, best first."""
        places = self._reached[epoch]
        if late := [(WORST, r.number) for r in self._diverged if r.epochs < epoch]:
            places = sorted(places + late)
        if self._counted:
            places = [place for place in places if self._counted(place[1])]
        return places

    def only(self, counted: Callable[[int], bool]) -> "Standings":
        """A view of the trials whose numbers count."""
        view = Standings()
        view._records, view._reached, view._diverged = self._records, self._reached, self._diverged
        view._counted = counted
        return view

    def __getitem__(self, number: int) -> TrialRecord:
        return self._records[number]

    def __len__(self) -> int:
        return sum(1 for _ in self) if self._counted else len(self._records)

    def __iter__(self) -> Iterator[TrialRecord]:
        records = self._records.values()
        return (r for r in records if self._counted(r.number)) if self._counted else iter(records)


def better(error: float, places: Sequence[Place]) -> int:
    """How many of these have a lower error."""
    return bisect_left(places, (error,))

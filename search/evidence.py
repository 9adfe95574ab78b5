"""What the samplers learn from: the study's trials, brought to one budget."""

from collections.abc import Sequence
from dataclasses import dataclass

from search.records import TrialRecord
from search.standings import Standings

ENOUGH = 10  # trials at a rung, for a model of it


@dataclass(frozen=True)
class Evidence:
    """Trials compared after equal numbers of epochs, best first; refused ones; and those at work without a result."""

    observed: tuple[TrialRecord, ...]
    infeasible: tuple[TrialRecord, ...]
    pending: tuple[TrialRecord, ...]


NOTHING = Evidence((), (), ())


def gather(standings: Standings, rungs: Sequence[int], epochs: int) -> Evidence:
    """The trials that reached the highest rung which `ENOUGH` have reached, or else the first rung.

    One rung at a time, as in BOHB (arXiv:1807.01774, section 3.2): errors after unequal numbers of epochs say more of
    the epochs than of the configurations. A trial that diverged before the rung counts as the worst there; one that
    waits at a lower rung does not count.
    """
    reached: list[TrialRecord] = []
    for rung in reversed((*rungs, epochs)):
        reached = [r for r in (standings[number] for _, number in standings.at(rung)) if _able(r)]
        if len(reached) >= ENOUGH:
            break
    seen = {record.number for record in reached}
    waits = frozenset(rungs)
    return Evidence(
        tuple(reached),
        tuple(r for r in standings if not _able(r)),
        tuple(r for r in standings if r.running and r.number not in seen and r.epochs not in waits and _able(r)),
    )


def _able(record: TrialRecord) -> bool:
    return record.violation is None or record.violation <= 0

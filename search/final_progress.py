"""How far the finals are: a live table on a terminal, a line for each training that ends everywhere else."""

from collections.abc import Sequence
from statistics import fmean, stdev

from rich.console import Console, RenderableType
from rich.table import Table

from search import report_words as words
from search.finals import SEED, Candidate
from search.live import LiveScreen
from search.records import TrialRecord


class FinalProgress(LiveScreen):
    """Shows the trainings of the finalists.

    Args:
        console: where to.
        name: of the study.
        candidates: who takes part.
        epochs: of each training.
    """

    def __init__(self, console: Console, name: str, candidates: Sequence[Candidate], epochs: int) -> None:
        super().__init__(console)
        self._name, self._candidates, self._epochs = name, candidates, epochs
        self._runs: Sequence[TrialRecord] = ()
        self._trainings = 0
        self._told: set[int] | None = None

    def update(self, runs: Sequence[TrialRecord], trainings: int) -> None:
        """Shows the trainings begun so far, of as many as there are to be."""
        self._runs, self._trainings = runs, trainings
        if self._console.is_interactive:
            return
        ended = [run for run in runs if not run.running]
        if self._told is None:
            self._told = {run.number for run in ended}
            done = f", {len(ended)} are done" if ended else ""
            tested = f"{words.plural(len(self._candidates), 'finalist')} trained on train + validation, then tested"
            self.say(f"{self._name}: {tested}: {trainings} trainings{done}")
        for run in ended:
            if run.number not in self._told:
                self._told.add(run.number)
                self.say(f"[{len(self._told)}/{trainings}] {self._line(run)}")

    def _line(self, run: TrialRecord) -> str:
        error = f"{words.percent(run.test['error'])} test error" if run.test else f"{run.state.value} ({run.reason})"
        return f"{self._label(run.finalist)}, seed {run.params[SEED]}: {error}: {words.network(run.params)}"

    def _label(self, number: int | None) -> str:
        label = next((c.label for c in self._candidates if c.number == number), None)
        return label or f"finalist {number}"

    def _screen(self) -> RenderableType:
        done = sum(not run.running for run in self._runs)
        table = Table(box=None, expand=True, padding=(0, 1), header_style="dim", title_justify="left")
        table.title = f"{self._name}: finals, {done} of {self._trainings} trainings"
        for head in ("finalist", "network", "seeds", "test error", "running"):
            table.add_column(head, no_wrap=True, overflow="ellipsis")
        for candidate in self._candidates:
            own = [run for run in self._runs if run.finalist == candidate.number]
            errors = [run.test["error"] for run in own if run.test]
            spread = f" +- {stdev(errors):.2f}" if len(errors) > 1 else ""
            table.add_row(
                self._label(candidate.number),
                words.network(candidate.spec.flat()),
                str(len(errors)),
                f"{words.percent(fmean(errors), 10_000)}{spread}" if errors else "",
                ", ".join(f"{run.epochs}/{self._epochs}" for run in own if run.running),
            )
        return table

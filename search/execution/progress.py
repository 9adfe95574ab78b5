"""How far a study is, search and finals: a live table on a terminal, plain lines everywhere else."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from statistics import fmean, stdev
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search import formatting
from search.optimize import Candidate
from search.records import TrialRecord, Trials, TrialState

RENDERS_PER_SECOND = 4


class LiveScreen(ABC):
    """As a context it owns the terminal's last lines. On no terminal (a file, a pipe, TERM=dumb) it draws nothing."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_interactive:
            self._live = Live(
                console=self._console,
                get_renderable=self._screen,
                refresh_per_second=RENDERS_PER_SECOND,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Prints one line, above what is drawn."""
        self._console.print(" ".join(text.split()), markup=False, highlight=False, soft_wrap=True)

    @abstractmethod
    def _screen(self) -> RenderableType:
        """What is drawn, at most four times a second."""


RUNNING_ROWS = 8  # more running trials are counted, not listed


class Progress(LiveScreen):
    """Shows snapshots of a study's trials; as a context it owns the terminal's last lines.

    On an interactive terminal: a table redrawn at most four times a second, whatever the rate of `update`. Elsewhere
    (a file, a pipe, TERM=dumb): one line for each trial that ends, without control codes; trials that had ended
    before the first `update` are summed up in one line, so call it once at the start of a continued study.
    """

    def __init__(self, console: Console, name: str, total: int, epochs: int) -> None:
        """`total` is the number of trials asked for, `epochs` the epochs of a complete trial."""
        super().__init__(console)
        self._name, self._total, self._epochs = name, total, epochs
        self._trials = Trials()
        self._waiting: Collection[int] = ()
        self._refused = 0
        self._told: set[int] | None = None
        self._told_waiting: dict[int, int] = {}  # number -> epochs
        self._start = monotonic()

    def __enter__(self) -> Self:
        self._start = monotonic()
        return super().__enter__()

    def update(self, records: Trials, waiting: Collection[int] = ()) -> None:
        """Shows this snapshot: every trial so far, those that run and, by number, those `waiting` to be promoted.

        Proposals that were beyond the limits may be among the records: they are no trials, and only counted.
        """
        self._trials, self._waiting, self._refused = records.started, waiting, len(records.refused)
        if not self._console.is_interactive:
            self._tell()

    def _tell(self) -> None:
        ended = Trials(trial for trial in self._trials if not trial.running)
        if self._told is None:
            self._told = {trial.number for trial in ended}
            if ended:
                self.say(f"{self._name}: {ended.own} of {self._total} trials are done{self._best_so_far()}")
            return
        known = [trial for trial in ended if trial.number in self._told]
        for trial in ended:
            if trial.number not in self._told:
                known.append(trial)
                self._told.add(trial.number)
                so_far = Trials(known)
                self.say(self._ended(trial, so_far.own, new_best=so_far.best is trial))
        for trial in self._trials:
            if trial.number in self._waiting and self._told_waiting.get(trial.number) != trial.epochs:
                self._told_waiting[trial.number] = trial.epochs
                self.say(f"trial {trial.number} waits {self._reached(trial)}")

    def _ended(self, trial: TrialRecord, done: int, new_best: bool) -> str:
        reason = f" ({trial.reason})" if trial.reason else ""
        return (
            f"[{done}/{self._total}] trial {trial.number} {trial.state.value} {self._reached(trial)}"
            f"{reason}{' - new best' if new_best else ''}"
        )

    def _reached(self, trial: TrialRecord) -> str:
        error = trial.measured
        result = "" if error is None else f", {formatting.percent(error)}"
        configuration = formatting.configuration(trial.params, self._paths())
        return f"after {formatting.plural(trial.epochs, 'epoch')}{result}: {configuration}"

    def _best_so_far(self) -> str:
        chosen = self._trials.best
        if chosen is None:
            return ""
        error = formatting.percent(chosen.measured)
        return (
            f", best so far {error}: {formatting.configuration(chosen.params, self._paths())} (trial {chosen.number})"
        )

    def _paths(self) -> list[str]:
        """Parameters with more than one value so far; defaults that never vary are noise in a line."""
        seen: dict[str, set[str]] = {}
        for trial in self._trials:
            for path, value in trial.params.items():
                seen.setdefault(path, set()).add(repr(value))
        return [path for path, values in seen.items() if len(values) > 1]

    def _screen(self) -> RenderableType:
        since = monotonic() - self._start
        shown = (self._trials, since, self._paths(), self._waiting, self._refused)
        return screen(self._name, self._total, self._epochs, *shown)


def remaining(trials: Trials, total: int, waiting: Collection[int] = ()) -> float | None:
    """Seconds until `total` trials have ended; None before the first one has.

    The mean time of the ended trials (stopped ones included, as more will be) for each trial to come, the rest of it
    for each that runs, shared by as many as run now. How many of the `waiting` go on is not known: they count nothing.
    """
    times = [trial.seconds for trial in trials if trial.state is not TrialState.RUNNING and trial.seconds is not None]
    if not times:
        return None
    mean = sum(times) / len(times)
    running = [trial for trial in trials if trial.running and trial.number not in waiting]
    to_come = max(0, total - trials.own)
    left = to_come * mean + sum(max(0.0, mean - (trial.seconds or 0.0)) for trial in running)
    return left / max(1, len(running))


def screen(
    name: str,
    total: int,
    epochs: int,
    trials: Trials,
    elapsed: float,
    paths: Sequence[str],
    waiting: Collection[int] = (),
    refused: int = 0,
) -> RenderableType:
    """The live display for one snapshot; `elapsed` in seconds, `paths` the parameters named beside a trial."""
    found = trials.counts()
    open_ = [trial for trial in trials if trial.running]
    running = [trial for trial in open_ if trial.number not in waiting]
    done = trials.own - len(open_)
    parts = [f"{done} of {total} trials", f"{len(running)} running"]
    parts += [f"{len(open_) - len(running)} waiting"] if len(open_) > len(running) else []
    parts += [f"{found['pruned']} stopped early"]
    parts += [f"{found[state]} {state}" for state in ("failed", "infeasible", "diverged") if found[state]]
    parts += [f"{refused} beyond the limits"] if refused else []
    left = remaining(trials, total, waiting)
    time = f"{formatting.duration(elapsed)} elapsed" + (
        "" if left is None else f", about {formatting.duration(left)} left"
    )
    head = Table.grid(expand=True)
    head.add_column(no_wrap=True)
    head.add_column(justify="right", no_wrap=True)
    head.add_row(Text(name, style="bold"), Text(time, style="dim"))
    bar = Table.grid(expand=True)
    bar.add_row(ProgressBar(total=max(total, 1), completed=done, complete_style="cyan"))
    lines = [head, bar, Text(" · ".join(parts), style="dim"), _best_line(trials, paths)]
    return Group(*lines, _table(running, epochs, paths)) if running else Group(*lines)


def _best_line(trials: Trials, paths: Sequence[str]) -> Text:
    chosen = trials.best
    if chosen is None:
        return Text("no result yet", style="dim")
    line = Text("best so far ", no_wrap=True, overflow="ellipsis")
    line.append(formatting.percent(chosen.measured), style="bold green")
    early = "" if chosen.state is TrialState.COMPLETE else f" after {formatting.plural(chosen.epochs, 'epoch')}"
    return line.append(f"{early}  trial {chosen.number}: {formatting.configuration(chosen.params, paths)}")


def _table(running: Sequence[TrialRecord], epochs: int, paths: Sequence[str]) -> RenderableType:
    table = Table(box=None, expand=True, padding=(0, 1), header_style="dim")
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("running", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("epoch", justify="right", no_wrap=True)
    table.add_column("error", justify="right", no_wrap=True)
    for trial in running[:RUNNING_ROWS]:
        error = trial.measured
        table.add_row(
            str(trial.number),
            Text(formatting.configuration(trial.params, paths)),
            f"{trial.epochs}/{epochs}",
            "" if error is None else formatting.percent(error),
        )
    if len(running) > RUNNING_ROWS:
        table.add_row("", f"and {len(running) - RUNNING_ROWS} more", "", "")
    return table


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
            tested = (
                f"{formatting.plural(len(self._candidates), 'finalist')} trained on train + validation, then tested"
            )
            self.say(f"{self._name}: {tested}: {trainings} trainings{done}")
        for run in ended:
            if run.number not in self._told:
                self._told.add(run.number)
                self.say(f"[{len(self._told)}/{trainings}] {self._line(run)}")

    def _line(self, run: TrialRecord) -> str:
        error = (
            f"{formatting.percent(run.test['error'])} test error" if run.test else f"{run.state.value} ({run.reason})"
        )
        return f"{self._label(run.finalist)}, seed {run.seed}: {error}: {formatting.network(run.params)}"

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
                formatting.network(candidate.spec.flat()),
                str(len(errors)),
                f"{formatting.percent(fmean(errors), 10_000)}{spread}" if errors else "",
                ", ".join(f"{run.epochs}/{self._epochs}" for run in own if run.running),
            )
        return table

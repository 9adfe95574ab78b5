"""How far a stage of a study is: a live table on a terminal and in a notebook, plain lines everywhere else."""

import sys
import uuid
from collections.abc import Collection, Iterator, Sequence
from io import StringIO
from statistics import fmean, stdev
from time import monotonic
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.activity import Activity
from search.formatting import configuration, duration, error_on, network, percent, plural, say
from search.optimize import Candidate, title
from search.records import TrialRecord, Trials, TrialState
from search.statistics import share_interval

RENDERS_PER_SECOND = 4
UPDATE_SECONDS = 0.25  # between two snapshots
SHARE = 0.02  # of the time at most goes into them: each goes through all trials
NOTEBOOK_SECONDS = 0.5  # between two pictures: a notebook keeps what it is sent until the browser has drawn it
NOTEBOOK_WIDTH = 100
STARTING = "starting the workers"
LEAST = 0.02  # part of the work from which the rest is estimated
RUNNING_ROWS = 8  # more running trials are counted, not listed


class Progress:
    """Shows snapshots of a search's trials or, with `candidates`, of the trainings of finals.

    As a context it owns the terminal's last lines, or one output of a notebook, and redraws them. Elsewhere (a file, a
    pipe, TERM=dumb) there is one line for each trial that ends, without control codes; trials that had ended before the
    first `update` are summed up in one line, so call it once at the start of a continued study.

    Args:
        console: where to.
        name: of the study.
        epochs: of a complete training.
        candidates: who take part in the finals.
        images: as many of one law are as sure of an error as those of the validation split; None: no interval is shown.
    """

    def __init__(
        self,
        console: Console,
        name: str,
        epochs: int,
        candidates: Sequence[Candidate] = (),
        images: float | None = None,
    ) -> None:
        self._images = images
        self._console, self._name, self._epochs, self._candidates = console, name, epochs, candidates
        self._trials = Trials()
        self._waiting: Collection[int] = ()
        self._total = self._refused = 0
        self._gain = ""
        self._left: Sequence[str] = ()
        self._values: dict[str, str] = {}  # of each parameter, that of the first trial which has it
        self._varied: set[str] = set()  # parameters with more than one value so far
        self._seen = 0  # trials whose parameters are in both
        self._told: set[int] | None = None
        self._best: TrialRecord | None = None  # of the trials that were told of
        self._told_waiting: dict[int, int] = {}  # number -> epochs
        self._over = self._before = 0.0  # the part of the work that is done, and was when it was first measured,
        self._since = 0.0  # so many seconds after the start
        self._updated = self._measured = False
        self._start = monotonic()
        self._due = 0.0  # when the next snapshot may come, on the clock of `monotonic`
        self._screen: Live | None = None
        self._activity: Activity | None = None  # tells a file or a pipe what goes on while no trial ends
        self._output = uuid.uuid4().hex if console.is_jupyter and "IPython" in sys.modules else None  # of a notebook
        self._drawn = False  # there; not before the first snapshot, for Ray clears the cell's output when it starts

    def __enter__(self) -> Self:
        self._start = monotonic()
        if self._output is None and self._console.is_interactive:
            self._screen = Live(
                console=self._console,
                get_renderable=self.screen,
                refresh_per_second=RENDERS_PER_SECOND,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._screen.start()
        else:
            self._activity = Activity(self._console.file, live=False).__enter__()
            self._activity.begin(STARTING)
        return self

    def __exit__(self, *raised: object) -> None:
        if self._activity is not None:
            self._activity.__exit__()
        if self._screen is not None:
            self._screen.stop()
        elif self._output is None:
            for line in filter(None, (" · ".join(self._left), self._gain)):
                self.say(line)

    def say(self, text: str) -> None:
        """Prints one line, above what is drawn."""
        say(self._console, " ".join(text.split()))
        if self._activity is not None:
            self._activity.said()

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next snapshot."""
        return monotonic() >= self._due

    def update(
        self,
        records: Trials,
        total: int,
        waiting: Collection[int] = (),
        gain: str = "",
        left: Sequence[str] = (),
    ) -> None:
        """Shows this snapshot: every trial so far, of `total` in all, those that wait to be promoted by number, and in
        words the gain that is expected of more search, and what is left of each budget.

        It is called when it `is_due`, and at the end. Proposals beyond the limits may be among the records: they are no
        trials, and only counted.
        """
        began = monotonic()
        self._trials, self._refused = records.started, len(records.refused)
        self._total, self._waiting, self._gain, self._left = total, waiting, gain, left
        for path, value in (item for trial in self._trials[self._seen :] for item in trial.params.items()):
            if self._values.setdefault(path, repr(value)) != repr(value):
                self._varied.add(path)
        self._seen = len(self._trials)
        self._measure(now=began)
        if self._output is not None:
            self._draw()
        elif self._screen is None:
            for line in self._news():
                self.say(line)
            if self._activity is not None:
                self._activity.change(self._at_work())
        now = monotonic()
        self._due = now + max(UPDATE_SECONDS if self._output is None else NOTEBOOK_SECONDS, (now - began) / SHARE)

    def _measure(self, now: float) -> None:
        """How much of the work is over: it never goes back, though a trial that waited goes on."""
        over = share_over(self._trials, self._total, self._epochs, self._waiting)
        if not self._measured:  # until the first epoch ends, workers start
            self._measured, self._before, self._since = self._updated and over > self._over, over, now - self._start
        self._over, self._updated = max(self._over, over), True

    def screen(self, elapsed: float | None = None) -> RenderableType:
        """What is drawn of the last snapshot, after so many seconds; default: since it was entered."""
        running = [t for t in self._trials if t.running and t.number not in self._waiting]
        done = len(self._trials) - sum(t.running for t in self._trials)
        elapsed = monotonic() - self._start if elapsed is None else elapsed
        left = remaining(elapsed - self._since, self._over, self._before)
        name = f"{self._name}: finals" if self._candidates else self._name
        head = Table.grid(expand=True)
        head.add_column(no_wrap=True)
        head.add_column(justify="right", no_wrap=True)
        about = "" if left is None else f", about {duration(left)} left"
        head.add_row(Text(name, style="bold"), Text(f"{duration(elapsed)} elapsed{about}", style="dim"))
        if self._begins:
            return Group(head, Text(self._at_work(), style="dim"))
        bar = Table.grid(expand=True)
        bar.add_row(ProgressBar(total=1.0, completed=self._over, complete_style="cyan"))
        lines = [head, bar, Text(" · ".join(self._parts(done, len(running))), style="dim")]
        if self._candidates:
            return Group(*lines, self._finalists())
        below = (" · ".join(self._left), self._gain)
        more = [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in below if line]
        return Group(*lines, self._best_line(), *more, *([self._table(running)] if running else []))

    def _draw(self) -> None:
        from IPython.display import display  # noqa: PLC0415  there where a notebook runs, and nowhere needed

        console = Console(file=StringIO(), width=NOTEBOOK_WIDTH, record=True, force_jupyter=False)
        console.print(self.screen())
        text = console.export_text(clear=False)
        html = console.export_html(inline_styles=True, code_format='<pre style="line-height: 1.2">{code}</pre>')
        display({"text/html": html, "text/plain": text}, raw=True, display_id=self._output, update=self._drawn)
        self._drawn = True

    def _parts(self, done: int, running: int) -> Iterator[str]:
        numbers = self._trials.counts()
        yield f"{done} of {self._total} {'trainings' if self._candidates else 'trials'}"
        yield f"{running} running"
        if waiting := numbers.get("running", 0) - running:
            yield f"{waiting} waiting"
        if not self._candidates:
            yield f"{numbers['pruned']} stopped early"
        yield from (f"{numbers[state]} {state}" for state in ("failed", "infeasible", "diverged") if numbers[state])
        if self._refused:
            yield f"{self._refused} beyond the limits"

    def _best_line(self) -> Text:
        chosen = self._trials.best
        if chosen is None:
            return Text("no result yet", style="dim")
        line = Text("best so far ", no_wrap=True, overflow="ellipsis")
        line.append(percent(chosen.measured), style="bold green")
        line.append(self._interval(chosen), style="dim")
        early = "" if chosen.state is TrialState.COMPLETE else f" after {plural(chosen.epochs, 'epoch')}"
        return line.append(f"{early}  {title(chosen)}: {self._configuration(chosen)}")

    def _interval(self, trial: TrialRecord) -> str:
        """` (0.4 to 3.1)`: where its error lies for other validation images."""
        if self._images is None or trial.measured is None:
            return ""
        between = share_interval(trial.measured / 100 * self._images, self._images)
        return f" ({between.low:.1f} to {between.high:.1f})"

    def _table(self, running: Sequence[TrialRecord]) -> Table:
        table = _table("trial", "running", "epoch", "error")
        for trial in running[:RUNNING_ROWS]:
            error = trial.measured
            result = "" if error is None else percent(error)
            which = Text(self._configuration(trial))
            table.add_row(str(trial.number), which, f"{trial.epochs}/{self._epochs}", result)
        if len(running) > RUNNING_ROWS:
            table.add_row("", f"and {len(running) - RUNNING_ROWS} more", "", "")
        return table

    def _finalists(self) -> Table:
        measure = self._trials[0].measure if self._trials else "error"
        table = _table("finalist", "network", "seeds", error_on("test", measure), "running")
        for candidate in self._candidates:
            runs = [run for run in self._trials if run.finalist == candidate.number]
            errors = [run.test_error for run in runs if run.test_error is not None]
            spread = f" +- {stdev(errors):.2f}" if len(errors) > 1 else ""
            table.add_row(
                Text(candidate.label or str(candidate.number)),
                Text(network(candidate.spec.flat())),
                str(len(errors)),
                f"{percent(fmean(errors), 10_000)}{spread}" if errors else "",
                ", ".join(f"{run.epochs}/{self._epochs}" for run in runs if run.running),
            )
        return table

    def _news(self) -> Iterator[str]:
        """Lines about what was not told yet."""
        ended = Trials(trial for trial in self._trials if not trial.running)
        if self._told is None:
            self._told, self._best = {trial.number for trial in ended}, ended.best
            yield from self._opening(ended)
        for trial in ended:
            if trial.number not in self._told:
                self._told.add(trial.number)
                before, self._best = self._best, Trials([*([self._best] if self._best else []), trial]).best
                line = self._tested(trial) if self._candidates else self._ended(trial, self._best is not before)
                yield f"[{len(self._told)}/{self._total}] {line}"
        for trial in self._trials:
            if trial.number in self._waiting and self._told_waiting.get(trial.number) != trial.epochs:
                self._told_waiting[trial.number] = trial.epochs
                yield f"{title(trial)} paused {self._reached(trial)}"

    @property
    def _begins(self) -> bool:
        """Whether nothing has come of any trial yet."""
        return all(t.running and not t.epochs for t in self._trials)

    def _at_work(self) -> str:
        """What runs, in a line."""
        running = [t for t in self._trials if t.running and t.number not in self._waiting]
        if self._begins:
            return f"{plural(len(running), 'worker')} starting, and training the first epoch" if running else STARTING
        shown = [f"{title(t, self._candidates)} {t.epochs}/{self._epochs} epochs" for t in running[:RUNNING_ROWS]]
        more = [f"{len(running) - RUNNING_ROWS} more"] if len(running) > RUNNING_ROWS else []
        return f"training {', '.join(shown + more) or 'nothing at the moment'}"

    def _opening(self, ended: Trials) -> Iterator[str]:
        if self._candidates:
            finalists, done = plural(len(self._candidates), "finalist"), f", {len(ended)} are done" if ended else ""
            yield (
                f"{self._name}: {finalists} trained on train + validation, then tested: {self._total} trainings{done}"
            )
        elif ended:
            chosen = ended.best
            result = "" if chosen is None else f", best so far {percent(chosen.measured)}{self._interval(chosen)}"
            which = "" if chosen is None else f": {self._configuration(chosen)} ({title(chosen)})"
            yield f"{self._name}: {len(ended)} of {self._total} trials are done{result}{which}"

    def _ended(self, trial: TrialRecord, new_best: bool) -> str:
        reason = f" ({trial.reason})" if trial.reason else ""
        new = f" - new best{self._interval(trial)}" if new_best else ""
        return f"{title(trial)} {trial.state} {self._reached(trial)}{reason}{new}"

    def _tested(self, run: TrialRecord) -> str:
        tested = run.test_error is not None
        result = (
            f"{percent(run.test_error)} {error_on('test', run.measure)}" if tested else f"{run.state} ({run.reason})"
        )
        return f"{title(run, self._candidates)}: {result}: {network(run.params)}"

    def _reached(self, trial: TrialRecord) -> str:
        error = trial.measured
        result = "" if error is None else f", {percent(error)}"
        return f"after {plural(trial.epochs, 'epoch')}{result}: {self._configuration(trial)}"

    def _configuration(self, trial: TrialRecord) -> str:
        """Without the parameters that are the same in all trials: in a line they are noise."""
        return configuration(trial.params, [path for path in self._values if path in self._varied])


def share_over(trials: Trials, total: int, epochs: int, waiting: Collection[int] = ()) -> float:
    """The part of the work of `total` trials that is done, from 0 to 1.

    One that has ended counts whole, and so does one that waits, for it may never go on; one that runs by its epochs.
    """
    parts = (t.epochs / epochs if t.running and t.number not in waiting else 1.0 for t in trials)
    return min(1.0, sum(parts) / max(total, 1))


def remaining(elapsed: float, done: float, before: float) -> float | None:
    """Seconds until all is done, as fast as it went: from `before`, a part of all, to `done` in `elapsed` seconds.

    None before that is known.
    """
    return elapsed * (1.0 - done) / (done - before) if done - before > LEAST else None


def _table(first: str, second: str, *others: str) -> Table:
    table = Table(box=None, expand=True, padding=(0, 1), header_style="dim")
    table.add_column(first, justify="right", no_wrap=True)
    table.add_column(second, ratio=1, no_wrap=True, overflow="ellipsis")
    for head in others:
        table.add_column(head, justify="right", no_wrap=True)
    return table

"""`Study`: a study in the hands of its user, from a notebook, a script, or a command line."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from rich.console import Console

from search import data, execution, export, report, tracking
from search.activity import Activity
from search.errors import Halted, InputError, halt
from search.export import Exportable, Facts
from search.formatting import say
from search.records import Finals, StudyFolder, Trials, answering, open_storage
from search.spec import StudySpec, load
from search.storage import Output, files, layout, replica
from search.study import notify
from search.study.driver import Driver, Result, delete_study, refuse_to_delete
from search.study.preflight import planned
from search.study.process import unchanged
from search.study.reader import Reader, predictions
from search.study.request import KEYS, Changes, changed, spec_of, specify, unasked

if TYPE_CHECKING:
    import optuna

    from search.report import Report  # loading it takes most of a second: not before there is one to write


class Study:
    """A study; `create` makes one that can be run, `open` one that is only read.

    What is read of it is as it was when it was first asked for, and is read again by `refresh` and after `run`. The
    process is left as it was: environment, loggers, signal handlers.

    Raises:
        InputError: bad input, in one sentence.
        Halted: a disk, a store or a database failed; once that is mended, it continues.
    """

    def __init__(
        self, output: Output, name: str, spec: StudySpec, *, may_run: bool, fresh: bool = False, yes: bool = False
    ) -> None:
        self.output, self.name, self.spec = output, name, spec
        self._may_run, self._fresh, self._yes = may_run, fresh, yes
        self._keys: frozenset[str] = frozenset()  # of the study, that were named when it was asked for

    @classmethod
    def create(
        cls,
        study: str | Path | Mapping[str, Any] | StudySpec = "digits",
        *,
        output: str | Path | Output = "results",
        scale: str | None = None,
        set: Mapping[str, Any] | None = None,
        fresh: bool = False,
        yes: bool = False,
        **changes: Unpack[Changes],
    ) -> Self:
        """A new study, or the one in `output` that has its name, to be continued. Nothing is written before `run`.

        Args:
            study: name of a shipped study or of one in `output`, a YAML file, what one holds, or a specification.
            output: folder or URL where studies are kept.
            scale: one of the scales that the study has.
            set: values by their path in the study, such as {"train.lr": 0.1, "space.net.depth": [20, 32]}.
            fresh: `run` begins it again; deletes what there is of it only with `yes`.
            yes: see `fresh`.
            changes: as the flags of the command line, such as trials=12.

        Raises:
            InputError: it cannot work.
        """
        if yes and not fresh:
            raise InputError("--yes confirms --fresh; give both, or neither")
        where = _output(output)
        with unchanged():
            spec = specify(study, where, scale, set or {}, changes)
            StudyFolder.check_apart(where, spec.name, spec.data)
            planned(spec)
            if spec.formers and replica.read(where.place(spec.name), layout.STUDY_FILE) is None:
                for former in spec.formers:
                    _former(where, former.study, spec)
            if execution.address() is None:
                execution.share(spec.resources, spec.search)
        made = cls(where, spec.name, spec, may_run=True, fresh=fresh, yes=yes)
        made._keys = frozenset(key for key, _ in changed(set or {}, changes))
        return made

    @classmethod
    def open(cls, study: str | Path, *, output: str | Path | Output | None = None, storage: str | None = None) -> Self:
        """A study that was begun, here or elsewhere, and may be at work: to be read. Nothing is written.

        Args:
            study: its folder or URL; with `output` its name there.
            output: folder or URL where studies are kept.
            storage: URL of its trials, where what the study says of it lacks a password.

        Raises:
            InputError: there is no such study, or its records are damaged.
            Halted: the URL or the storage does not answer.
        """
        where, name = (_output(output), str(study)) if output is not None else _parted(str(study))
        opened = cls(where, name, spec_of(where, name, storage), may_run=False)
        opened.refresh()
        return opened

    @unchanged()
    def run(self) -> Result:
        """Runs what is left, and blocks until it is done or interrupted; progress is shown meanwhile.

        Raises:
            InputError: something of what it needs is not there, it is being worked on by another process, or it was
                opened to be read.
            Halted: the disk is full, the storage went away, or Ray did not start.
        """
        if not self._may_run:
            raise InputError(f"study {self.name!r} was opened to be read; Study.create(...) continues it")
        console, notices = Console(), notify.Notices(self.spec, self.place)
        try:
            result, done = self._run(console)
            if done and result.new_champion:
                notices.send("champion", result.sentence, result.answer)
            if done and not result.interrupted:
                notices.send("finished", result.sentence, result.answer)
            return result
        except Halted as halted:
            notices.send("halted", str(halted))
            raise
        finally:
            if trouble := notices.close():
                say(console, trouble)

    def _run(self, console: Console) -> tuple[Result, bool]:
        """How it has ended, and whether anything was left to do."""
        with _activity(console) as activity, self._driver(console, activity, sync=False) as driver:
            self.__dict__.pop("_read", None)
            activity.end()
            info, unknown = driver.data.info, notify.missing(self.spec)
            survey = info.survey.warning if info.survey else ""
            for line in (driver.announcement(self.place), info.note, survey, unknown):
                if line:
                    say(console, line)
            activity.begin("comparing records and report")
            ended = driver.concluded()
            return ended or driver.run(console), ended is None

    @unchanged()
    def sync(self, set: Mapping[str, Any] | None = None) -> tuple[Result, str]:
        """Sends to MLflow what it lacks, trains nothing; returns how the study stands, and what was sent in words.

        Args:
            set: as for `create`; of tracking and storage alone, all else is as the study was begun.

        Raises:
            InputError, Halted: as `run`.
        """
        asked = [(key, value) for key, value in (set or {}).items() if key.startswith(("tracking.", "search.storage"))]
        self.spec = load(self.spec.model_dump(mode="json"), asked)
        console = Console()
        with _activity(console) as activity, self._driver(console, activity, sync=True) as driver:
            activity.begin("sending to MLflow")
            unsent, behind = driver.mirror.unsent, driver.mirror.behind(study_too=True)
            result = driver.sync()
        store = self.mlflow_store
        if result.unsent:
            return result, f"{result.unsent}; run the same command again"
        if behind:
            return result, f"{store} lacked runs or epochs that it had been sent; everything was sent again"
        return result, f"{unsent or 'no'} runs were left to send to {store}"

    @unchanged()
    def refresh(self) -> Self:
        """Reads the records again; returns the study."""
        self.__dict__["_read"] = Reader.at(self.output, self.name, self.spec)
        return self

    @property
    def folder(self) -> Path:
        """The study on this machine; of one at a URL the copy of its records, reports and champion here."""
        return self.output.path / self.name

    @property
    def place(self) -> str:
        """Its path or URL."""
        return self.output.place(self.name)

    @property
    def champion(self) -> Path | None:
        """The folder in which `run` has exported its champion, on this machine."""
        exported = self.folder.absolute() / export.CHAMPION
        return exported if (exported / "config.json").exists() else None

    @property
    def trials(self) -> Trials:
        """Its trials by number, and proposals beyond its limits that were never started; empty before it has begun."""
        return self._read.records if self._read else Trials()

    @property
    @unchanged()
    def finals(self) -> Finals | None:
        """Its finalists with their trainings; None where there are none yet."""
        return self._read.finals if self._read else None

    @property
    def optuna(self) -> "optuna.Study":
        """The search as Optuna has it, for `optuna.visualization`.

        Raises:
            InputError: it has not begun.
        """
        return self._begun.study

    @property
    def mlflow_url(self) -> str | None:
        """The comparison of its trials in MLflow's pages; None before MLflow has the study.

        For a database of this machine it is where `python -m search.ui` shows it.
        """
        sent, store = self._begun.cursor if self._read else None, self.mlflow_store
        if not (sent and sent.study):
            return None
        return tracking.Pages(store.uri if store.remote else tracking.Pages.USUAL, sent.experiment, sent.study).charts

    @property
    def mlflow_store(self) -> "tracking.Store":
        """Where MLflow keeps its runs."""
        asked = self.spec.tracking
        return tracking.Store.chosen(asked.uri, asked.experiment, self.output)

    @unchanged()
    def report(self) -> "Report":
        """Writes the report of the study as it is now into `folder`; a notebook shows it.

        Raises:
            InputError: it has not begun.
            Halted: the folder cannot be written.
        """
        seen = self._begun
        try:
            if self.output.url is not None:
                self.output.make(self.name)
                for name in report.FILES:  # which say whether it has ended
                    if written := replica.read(self.place, name):
                        files.replace(self.folder / name, written)
            concluded = report.is_of(self.folder, seen.summary)
            answers = predictions(self.place, seen.finals)
            return report.write(self.folder, seen.summary, seen.records, seen.importance, concluded, answers)
        except OSError as error:
            raise halt(error, "the report") or error from None

    @unchanged()
    def export(self, to: str | Path, trial: int | None = None) -> Facts:
        """Writes the champion, or another trial, as a folder that loads without the study; returns what is known of it.

        Args:
            to: a folder that is new or empty.
            trial: its number.

        Raises:
            InputError: there is no champion, or no such trial; its data or its checkpoint are gone; something is in the
                folder; the study is being worked on.
            Halted: a place cannot be read or written.
            NotTheSame: the exported graphs give other results than the network.
        """
        export.check_free(Path(to))
        try:
            with self.exportable(trial) as model:
                export.export(Path(to), model)
                return model.facts
        except OSError as error:
            raise halt(error, to) or error from None

    @contextmanager
    def exportable(self, trial: int | None) -> Iterator[Exportable]:
        """The network that `export` writes, with its weights on this machine's disk while it is entered.

        Raises:
            InputError, Halted: as `export`.
        """
        prepared = data.prepare(self.spec.data)
        folder = StudyFolder.enter(self.output, self.name)  # what another process is writing could not be read whole
        try:
            seen = self.refresh()._begun
            if seen.environment.data["digest"] != prepared.info.digest or not (seen.records or self.spec.compare):
                raise InputError(
                    f"study {self.name!r} has no trial of what its study.yaml says on the data that are here now "
                    f"(digest {prepared.info.digest[:12]}); bring back the data that it was searched on, or run it "
                    "again"
                )
            found = export.chosen(self.spec, prepared, folder, seen.records, seen.finals, trial)
            with answering(self.spec.search.storage), found.loaded(prepared) as model:
                yield model
        finally:
            folder.leave()

    @cached_property
    def _read(self) -> Reader | None:
        with unchanged():
            return Reader.at(self.output, self.name, self.spec)

    @property
    def _begun(self) -> Reader:
        if self._read is None:
            raise InputError(
                f"study {self.name!r} in {self.place} has not begun; start it with `python -m search.run {self.name}`"
            )
        return self._read

    @contextmanager
    def _driver(self, console: Console, activity: Activity, sync: bool) -> Iterator[Driver]:
        """The study in its folder, locked; of one that is only sent to MLflow nothing is settled anew."""
        spec = self.spec

        def out(line: str) -> None:
            activity.end()
            say(console, line)

        activity.begin("opening MLflow")
        _, space, _ = planned(spec)
        if spec.search.storage:
            open_storage(Path(), spec.search.storage)  # one that does not open is reported before anything is written
        store = self.mlflow_store
        folder = StudyFolder.enter(self.output, self.name)
        try:
            if self._fresh and not self._yes:
                refuse_to_delete(folder, spec)
            try:
                store.check()
            except tracking.NoAnswer as away:
                if sync or self._fresh or not store.has_tracked(folder.path):
                    raise
                out(f"{str(away).partition(';')[0]}; the study goes on, and keeps what it is to be sent")
            activity.begin("reading the data")
            prepared = data.prepare(spec.data)
            activity.begin("opening the records")
            if self._fresh:
                self._delete(folder, out)
            folder.check_version()
            driver = Driver(spec, space, prepared, folder, store, self.output, self._trials_of, activity)
            for former in driver.former:
                out(str(former))
            if driver.weights.missing:
                out(driver.weights.missing)
            if not sync:
                if driver.ledger.conclusion is not None and driver.ledger.conclusion.state in ("complete", "failed"):
                    self._check_finished(folder)
                folder.settle(spec)
            yield driver
        except OSError as error:
            raise halt(error, folder.place) or error from None
        finally:
            folder.leave()

    def _delete(self, folder: StudyFolder, out: Callable[[str], None]) -> None:
        """Deletes the study, once, after all that may be refused."""
        if execution.address() is not None:
            with execution.connected(self.spec.resources, self.spec.search):
                pass  # for what it refuses
        for path in delete_study(folder, self.spec):
            out(f"not of the study, and kept: {path}")
        self._fresh = self._yes = False

    def _check_finished(self, folder: StudyFolder) -> None:
        """Refuses to go on with a study that is complete, where that was not asked for by a word."""
        try:
            before = load(folder.study_file)
        except InputError:  # its file is gone or damaged, and is written anew
            return
        changes = unasked(before, self.spec, self._keys)
        if not changes:
            return
        (path, (old, new)), *others = changes.items()
        also = f" (also changed: {', '.join(other for other, _ in others)})" if others else ""
        flag = f"--trials {new}" if path == KEYS["trials"] else f"--set {path}={json.dumps(new)}"
        raise InputError(
            f"{path} = {new}, but study {self.name!r} in {folder.place} is complete with {old}{also}; nothing was "
            f"trained: ask for it by {flag}, give the study its former flags, another --name, or --fresh to begin again"
        )

    def _trials_of(self, name: str) -> Trials:
        """Those of another study in the same output."""
        read = Reader.at(self.output, name, _former(self.output, name, self.spec))
        return read.records if read else Trials()


def _former(output: Output, name: str, spec: StudySpec) -> StudySpec:
    """What the study `name`, of which `spec` begins with the best, was asked to do."""
    try:
        former = spec_of(output, name)
        with_password = spec.search.storage  # which no file has
        return spec_of(output, name, with_password) if former.search.storage and with_password else former
    except InputError as fault:
        raise InputError(f"start: {fault}") from None


def _activity(console: Console) -> Activity:
    """Where it can be told: a notebook would keep each of its lines."""
    return Activity(StringIO() if console.is_jupyter else None)


def _output(given: str | Path | Output) -> Output:
    return given if isinstance(given, Output) else Output(str(given))


def _parted(place: str) -> tuple[Output, str]:
    """Where a study is kept, and its name there."""
    if Output(place).url is not None:
        output, _, name = place.rstrip("/").rpartition("/")
        return Output(output), name
    path = Path(place.removeprefix("file://"))
    path = path.resolve() if path.name in ("", "..") else path
    return Output(str(path.parent)), path.name

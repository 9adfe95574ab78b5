"""A study as its storage holds it now, for a report: nothing of the study is locked, sent or changed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from optuna.storages import BaseStorage

from search import storage
from search.errors import InputError, hint
from search.optimize import Lineage, copied, finals_of, importance, make_scheduler
from search.records import (
    Environment,
    Finals,
    StudyFolder,
    StudySummary,
    Trials,
    open_storage,
)
from search.spec import Space, StudySpec, load
from search.storage import JOURNAL, STUDY_FILE, Output, json_object
from search.tracking import of_seeds, of_trials, read_cursor


@dataclass(frozen=True)
class Seen:
    """What `search.report.write` takes, and the folder that it is for."""

    folder: Path
    summary: StudySummary
    records: Trials
    importance: dict[str, float]


def look(output: Output, name: str, storage: str | None = None) -> Seen:
    """The study `name` as it is now, also while it runs; of one at a URL this machine's copy of its records.

    Args:
        output: where studies are kept.
        name: of the study.
        storage: URL of its trials, if not the one that the study names.

    Raises:
        InputError: there is no such study, it has no trial yet, or its storage cannot be opened.
    """
    folder = _folder(output, name)
    spec = load(folder / STUDY_FILE, [("search.storage", storage)] if storage else [])
    with _opened(folder / JOURNAL, spec.search.storage) as opened:
        study = Lineage(opened, spec.name).latest()
        around = (Environment.of(study) or _reported(folder)) if study else None
        if study is None or around is None:
            raise InputError(f"study {name!r} in {folder} has not begun; start it with `python -m search.run {name}`")
        return _seen(folder, spec, opened, study, around)


def _seen(folder: Path, spec: StudySpec, storage: BaseStorage, study: optuna.Study, around: Environment) -> Seen:
    height, width, channels = around.data["shape"]
    space = spec.make_space((height, width, channels), len(around.data["classes"]))
    runs = read_cursor(StudyFolder.outbox_in(folder, study.user_attrs["generation"]).with_suffix(".cursor.json")).runs
    records = Trials(replace(trial, mlflow_run_id=runs.get(str(trial.number))) for trial in Trials.of(study))
    elapsed, exhausted = float(study.user_attrs.get("elapsed", 0.0)), study.user_attrs.get("exhausted")
    ledger = copied(storage, study.study_name) if records.is_complete(spec, elapsed, exhausted) else None
    summary = summarise(
        spec,
        space,
        around,
        elapsed + (ledger.elapsed if ledger else 0.0),
        records.stop_reason(spec, elapsed, exhausted),
        finals_of(spec, ledger, records, around.data, of_trials(runs), of_seeds(runs)) if ledger else None,
    )
    return Seen(folder, summary, records, importance(study, summary.first_rung, spec.search.seed))


def _folder(output: Output, name: str) -> Path:
    folder = output.path / name
    if (folder / STUDY_FILE).is_file():
        return folder
    if output.url is not None:
        raise InputError(
            f"study {name!r} at {output} has no copy on this machine; report where it was run last, or run it here"
        )
    known = [path.parent.name for path in sorted(output.path.glob(f"*/{STUDY_FILE}"))]
    if not known:
        raise InputError(f"output = {str(output)!r} holds no study; run `python -m search.run`, or name --output")
    raise InputError(f"study {name!r} is not in {output}; {hint(name, known)}")


@contextmanager
def _opened(journal: Path, url: str | None) -> Iterator[BaseStorage]:
    """The storage at `url`, or a copy of the journal: who opens a journal mends it, and its study may be at work."""
    if url is not None:
        yield open_storage(journal, url)
        return
    with storage.folder() as folder:
        copy = folder / journal.name
        if journal.exists():
            shutil.copyfile(journal, copy)
        try:
            opened = open_storage(copy)
        except InputError as damaged:
            raise InputError(str(damaged).replace(str(copy), str(journal))) from None
        yield opened


def _reported(folder: Path) -> Environment | None:
    """From the report of before, for a study whose storage notes none."""
    try:
        known = json_object(folder / "report.json")
        return Environment(known["data"], known["hardware"], known["versions"], {}, {}, 0.0)
    except KeyError:
        return None


def summarise(
    spec: StudySpec, space: Space, around: Environment, elapsed: float, why: str | None, finals: Finals | None
) -> StudySummary:
    """The study as the report shows it.

    Args:
        spec: as it was asked for.
        space: of `spec`.
        around: on what it ran.
        elapsed: seconds of work, search and finals, over all starts.
        why: there are fewer trials than were asked for.
        finals: None where there are none, or none yet.
    """
    search = spec.search
    return StudySummary(
        name=spec.name,
        description=spec.description,
        data=around.data,
        space={d.path: d.describe() for d in space.dimensions},
        epochs=spec.epochs,
        first_rung=make_scheduler(search, spec.epochs).first_compared,
        trials=0 if spec.compare else search.trials,
        sampler=search.sampler.value,
        scheduler=search.scheduler.value,
        seed=search.seed,
        elapsed_seconds=elapsed,
        hardware=around.hardware,
        versions=around.versions,
        objectives=search.objectives,
        limits=spec.limits.model_dump(exclude_none=True, exclude_defaults=True),
        stopped=why,
        finals=finals,
        finals_asked=spec.finals.top > 0 or bool(spec.compare),
        holds=around.holds,
        finals_hold=around.finals_hold,
    )

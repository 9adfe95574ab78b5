"""A study as its storage holds it now, for a report: nothing of the study is locked, sent or changed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
from optuna.storages import BaseStorage

from search.errors import InputError, hint
from search.final_found import copied, finals_of
from search.importance import importance
from search.ledger_read import read
from search.outbox import of_seeds, of_trials, read_cursor
from search.output import STUDY_FILE, Output
from search.records import StudySummary, TrialRecord
from search.storage import open_storage
from search.study_folder import JOURNAL, outbox_file
from search.study_spec import StudySpec, load
from search.study_summary import Surroundings, latest, noted, over, stopped, summarise
from search.whole_file import json_object


@dataclass(frozen=True)
class Seen:
    """What `search.report.write` takes, and the folder that it is for."""

    folder: Path
    summary: StudySummary
    records: list[TrialRecord]
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
        study = latest(opened, spec.name)
        around = (noted(study) or _reported(folder)) if study else None
        if study is None or around is None:
            raise InputError(f"study {name!r} in {folder} has not begun; start it with `python -m search.run {name}`")
        return _seen(folder, spec, opened, study, around)


def _seen(folder: Path, spec: StudySpec, storage: BaseStorage, study: optuna.Study, around: Surroundings) -> Seen:
    height, width, channels = around.data["shape"]
    space = spec.make_space((height, width, channels), len(around.data["classes"]))
    runs = read_cursor(outbox_file(folder, study.user_attrs["generation"]).with_suffix(".cursor.json")).runs
    trials = [read(frozen) for frozen in study.get_trials(deepcopy=False)]
    records = [replace(trial, mlflow_run_id=runs.get(str(trial.number))) for trial in trials]
    elapsed, exhausted = float(study.user_attrs.get("elapsed", 0.0)), study.user_attrs.get("exhausted")
    ledger = copied(storage, study.study_name) if over(spec, records, elapsed, exhausted) else None
    summary = summarise(
        spec,
        space,
        around,
        elapsed + (ledger.elapsed if ledger else 0.0),
        stopped(spec, records, elapsed, exhausted),
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
    with TemporaryDirectory(prefix="resnet-search-") as folder:
        copy = Path(folder) / journal.name
        if journal.exists():
            shutil.copyfile(journal, copy)
        try:
            opened = open_storage(copy)
        except InputError as damaged:
            raise InputError(str(damaged).replace(str(copy), str(journal))) from None
        yield opened


def _reported(folder: Path) -> Surroundings | None:
    """From the report of before, for a study whose storage notes none."""
    try:
        known = json_object(folder / "report.json")
        return Surroundings(known["data"], known["hardware"], known["versions"], {}, {}, 0.0)
    except KeyError:
        return None

"""What is exported of a study: its champion, and where it has none, its best complete trial."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from search import checkpoint, data, lineage
from search import report_facts as facts_of
from search.data import Prepared
from search.errors import InputError, hint
from search.exportable import Exportable, Facts
from search.final_found import copied, finals_of
from search.output import STUDY_FILE, Output
from search.records import Finals, TrialRecord, TrialState
from search.remote import local_copy
from search.spec import TrialSpec
from search.storage import answering, open_storage
from search.study_folder import StudyFolder
from search.study_spec import StudySpec, load
from search.study_summary import described
from search.versions import versions


@dataclass(frozen=True)
class Searched:
    """A study as far as it decides what is exported."""

    spec: StudySpec
    data: Prepared
    records: Sequence[TrialRecord]
    finals: Finals | None
    trials: Mapping[int, str]  # number -> folder or URL of its checkpoints
    runs: Callable[[int], str]  # likewise for the runs of the finals


@dataclass(frozen=True)
class Chosen:
    """A training whose weights are exported."""

    spec: TrialSpec
    facts: Facts
    checkpoints: str  # their folder or URL


def chosen(study: Searched, trial: int | None) -> Chosen:
    """Trial number `trial`, else the champion of the finals, else the best complete trial.

    Raises:
        InputError: there is no such trial, it has no result, or none is complete.
    """
    finals = study.finals
    if trial is None and finals is not None and finals.best is not None:
        return winner(study.spec, finals, study.runs)
    return _trial(study, trial)


@contextmanager
def exportable(output: Output, name: str, trial: int | None, storage: str | None) -> Iterator[Exportable]:
    """The network of a study that is chosen, with its weights on this machine's disk while it is entered.

    Args:
        output: where studies are kept.
        name: of the study.
        trial: its number; default: the champion.
        storage: the study's Optuna storage, where its own words for it lack a password.

    Raises:
        InputError: there is no such study, it has no champion, its data are not there, or it is being worked on.
        Halted: the URL or the storage does not answer.
    """
    spec = _study(output, name, storage)
    prepared = data.prepare(spec.data)
    folder = StudyFolder.enter(output, spec.name)  # what another process is writing could not be read whole
    try:
        with (
            answering(spec.search.storage),
            weighed(chosen(_searched(spec, prepared, folder), trial), prepared) as model,
        ):
            yield model
    finally:
        folder.leave()


@contextmanager
def weighed(found: Chosen, prepared: Prepared) -> Iterator[Exportable]:
    """A training with its weights on this machine's disk while it is entered.

    Raises:
        InputError: its checkpoint is gone or damaged.
        Halted: the URL does not answer.
    """
    with local_copy(_weights(found)) as weights:
        yield Exportable(found.spec, Path(weights), prepared, found.facts)


def _study(output: Output, name: str, storage: str | None) -> StudySpec:
    file = output.file(name, STUDY_FILE)
    if file is None:
        known = [] if output.url else [path.parent.name for path in output.path.glob(f"*/{STUDY_FILE}")]
        remedy = hint(name, known) if known else "correct the name, or --output"
        raise InputError(f"study {name!r} is not in {str(output)!r}; {remedy}")
    return load(file, [("search.storage", storage)] if storage else [])


def _searched(spec: StudySpec, prepared: Prepared, folder: StudyFolder) -> Searched:
    space = spec.make_space(prepared.info.shape, len(prepared.info.classes))
    which = lineage.identity(space, prepared.info.digest, spec.limits.model_dump())
    storage = open_storage(folder.journal, spec.search.storage)
    kept = lineage.kept(storage, spec.name, folder.owner(shared=spec.search.storage is not None), which)
    study = lineage.family(storage, spec.name).get(f"{spec.name}-{which}")
    if study is None or (not kept and not spec.compare):
        raise InputError(
            f"study {spec.name!r} has no trial of what its {STUDY_FILE} says on the data that are here now (digest "
            f"{prepared.info.digest[:12]}); bring back the data that it was searched on, or run it again"
        )
    trials = {k.record.number: f"{folder.trials(k.generation)}/{k.number:04d}" for k in kept}
    records, checkpoints = [k.record for k in kept], folder.finals(study.user_attrs["generation"])
    ledger = copied(storage, study.study_name)
    found = finals_of(spec, ledger, records, described(prepared.info)) if ledger else None
    return Searched(spec, prepared, records, found, trials, lambda run: f"{checkpoints}/{run:04d}")


def winner(spec: StudySpec, finals: Finals, runs: Callable[[int], str]) -> Chosen:
    """The champion of finals that have one; `runs`: number of a training -> folder or URL of its checkpoints."""
    finalist = finals.best
    assert finalist is not None  # as told
    run = next(r for r in finalist.runs if r.number == finals.champion_run)
    flat = {**finalist.params, "train.seed": run.seed, "train.epochs": finals.epochs}
    called = finalist.label or f"trial {finalist.number}"
    facts = Facts(
        study=spec.name,
        description=spec.description,
        training=f"{called}, seed {run.seed}",
        chosen=f"the one of median test error, of the best of {len(finals.finalists)} finalists by mean test error",
        trained_on=finals.trained_on,
        epochs=run.epochs,
        tested={r.seed: r.test_error for r in finalist.runs if r.test_error is not None},
        level=finals.level,
        versions=_versions(),
    )
    return Chosen(TrialSpec.from_flat(flat), facts, runs(run.number))


def _trial(study: Searched, number: int | None) -> Chosen:
    name, records = study.spec.name, study.records
    complete = [r for r in records if r.state is TrialState.COMPLETE]
    if number is None:
        record, reason = facts_of.best(complete), f"the lowest validation error of {len(complete)} complete trials"
        if record is None:
            raise InputError(f"study {name!r} has no complete trial, hence no champion; run it to its end")
    else:
        record, reason = next((r for r in records if r.number == number), None), "which was asked for"
        if record is None:
            raise InputError(f"--trial = {number} is none of study {name!r}, which has {len(records)}, from 0")
        if record.state not in facts_of.RANKED or facts_of.measured(record) is None:
            raise InputError(f"--trial = {number} of study {name!r} is {record.state}, without a network; name another")
    facts = Facts(
        study=name,
        description=study.spec.description,
        training=f"trial {record.number}",
        chosen=reason,
        trained_on=study.data.info.n_train,
        epochs=record.epochs,
        val_error=facts_of.measured(record),
        versions=_versions(),
    )
    return Chosen(TrialSpec.from_flat(record.params), facts, study.trials[record.number])


def _weights(found: Chosen) -> str:
    newest = checkpoint.latest(found.checkpoints)  # which also compares all checksums
    where = checkpoint.validated(found.checkpoints)
    if newest is None or where is None or newest.state.epoch != found.facts.epochs:
        raise InputError(
            f"{found.facts.training} has no whole checkpoint of epoch {found.facts.epochs} in {found.checkpoints}; "
            "restore it from a copy"
        )
    return where


def _versions() -> dict[str, str]:
    named = versions()
    return {name: named[name] for name in ("python", "torch")} | {"onnx": version("onnx")}

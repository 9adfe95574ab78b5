"""What is exported of a study: real records and checkpoints, written as a search writes them."""

import os
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from resnet import build
from search import Study, data, export
from search.errors import InputError
from search.export import Exportable
from search.export.__main__ import main
from search.records import (
    Environment,
    Finalist,
    Finals,
    SeedRun,
    StoredStudy,
    StudyFolder,
    TrialRecord,
    TrialState,
    open_storage,
)
from search.spec import DataSpec, Share, StudySpec, TrialSpec, appraise
from search.storage import Output
from search.training import Checkpoint, checkpoint
from search.training.loop import State
from tests.support.epochs import epoch_of
from tests.support.exported import NET
from tests.support.object_store import object_store

STUDY = StudySpec(name="small", train={"epochs": 3, "batch_size": 32}, space={"net.depth": [8, 14, 20]})
ERRORS = {8: 4.0, 14: 3.0, 20: 5.0}  # percent


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_file(build(NET).state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def searched(output: Output, weights: Path, depths: dict[int, TrialState], spec: StudySpec = STUDY) -> StudyFolder:
    """A study as a search leaves it; which network the weights are of is not looked at."""
    prepared = data.prepare(spec.data)
    space = spec.make_space(prepared.info.shape, len(prepared.info.classes))
    folder = StudyFolder.enter(output, spec.name)
    folder.settle(spec)
    storage = open_storage(folder.journal, None, folder.forced)
    owner, stored = folder.owner(shared=False), StoredStudy(storage, spec.name)
    ledger = stored.open(owner, spec, space, prepared.info, lambda trial: appraise(trial, (8, 8), spec.limits))
    folder.bind(ledger.key, begun=False)
    Environment.save(ledger.study, prepared.info, Share(1, 0, 1))
    for depth, state in depths.items():
        asked = ledger.add({**space.fixed, "net.depth": depth})
        assert asked is not None
        epochs = 3 if state is TrialState.COMPLETE else 1
        for epoch in range(1, epochs + 1):
            ledger.report(asked.number, epoch, ERRORS[depth] + 3 - epoch, epoch_of(1.0, 100.0))
        written = State(epochs, load_file(weights), {})
        checkpoint.write(f"{folder.trials}/{asked.number:04d}", Checkpoint(written, []))
        if state is not TrialState.RUNNING:
            ledger.finish(asked.number, state, "stopped")
    folder.leave()
    return folder


def exportable(output: Output, trial: int | None = None) -> AbstractContextManager[Exportable]:
    return Study.open("small", output=output).exportable(trial)


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(str(tmp_path / "results"))


DEPTHS = {8: TrialState.PRUNED, 14: TrialState.COMPLETE, 20: TrialState.COMPLETE}


def test_the_best_complete_trial(output: Output, weights: Path) -> None:
    """Of 1,797 images a fifth is for the test, 359, and a tenth of the rest, 145, for validation."""
    searched(output, weights, DEPTHS)
    with exportable(output) as model:
        assert model.spec.net.depth == 14
        assert model.spec.train.epochs == 3
        assert model.weights.parent == output.path / "small" / "trials" / "0001" / "epoch-000003"
        facts = model.facts
        assert (facts.training, facts.val_error, facts.test_error, facts.trained_on) == ("trial 1", 3.0, None, 1293)
    with exportable(output, 0) as model:  # stopped early, but asked for
        assert (model.spec.net.depth, model.facts.epochs, model.facts.val_error) == (8, 1, 6.0)


def test_a_study_at_a_url(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its records and weights come from an object store; nothing of it is on this machine."""
    with object_store(tmp_path_factory.mktemp("store")) as store, pytest.MonkeyPatch.context() as patch:
        searched(Output(f"{store}/studies"), weights, DEPTHS)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("another machine")))
        with exportable(Output(f"{store}/studies")) as model:
            assert model.weights.read_bytes() == weights.read_bytes()
            assert model.spec.net.depth == 14
        with pytest.raises(InputError, match=r"study 'other' is not in 's3://.*'; correct the name, or --output"):
            Study.open("other", output=f"{store}/studies")


def refused(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    assert main(arguments) == status
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), err[:7]) == ("", 1, "error: ")
    return err


def test_what_cannot_be_exported(
    output: Output, weights: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    to = ("--to", str(tmp_path / "out"), "--output", str(output))
    assert "study 'small' is not in" in refused(capsys, 2, "small", *to)
    folder = searched(output, weights, {8: TrialState.DIVERGED, 14: TrialState.RUNNING, 20: TrialState.FAILED})
    assert "did you mean 'small'?" in refused(capsys, 2, "smal", *to)
    assert "has no complete trial, hence no champion; run it to its end" in refused(capsys, 2, "small", *to)
    for number, said in (
        (2, "2 of study 'small' is failed, without a network"),
        (9, "9 is none of study 'small', which"),
    ):
        assert f"--trial = {said}" in refused(capsys, 2, "small", "--trial", str(number), *to)
    locked = StudyFolder.enter(output, "small")
    assert f"is being worked on by process {os.getpid()}" in refused(capsys, 2, "small", *to)
    locked.leave()
    text = folder.study_file.read_text()
    folder.study_file.write_text(text.replace("seed: 0", "seed: 1"))  # also of the data: another split
    assert "has no trial of what its study.yaml says on the data" in refused(capsys, 2, "small", *to)
    assert not (tmp_path / "out").exists()


def test_a_damaged_checkpoint(output: Output, weights: Path, tmp_path: Path) -> None:
    searched(output, weights, DEPTHS)
    file = output.path / "small" / "trials" / "0001" / "epoch-000003" / "model.safetensors"
    damaged = bytearray(file.read_bytes())
    damaged[-5] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(InputError, match="trial 1 has no whole checkpoint of epoch 3 in"):
        Study.open("small", output=output).export(tmp_path / "out")


def test_the_champion_of_the_finals_comes_before_the_best_trial(output: Output) -> None:
    """By hand: two finalists with three seeds each, after two trials."""
    records = [
        TrialRecord(k, TrialState.COMPLETE, TrialSpec.from_flat({"net.depth": depth}).flat(), 12, {12: error})
        for k, (depth, error) in enumerate({8: 1.0, 14: 2.0}.items())
    ]
    runs = [SeedRun(k, k, TrialState.COMPLETE, 12, test_error=error) for k, error in enumerate((2.0, 4.0, 3.0))]
    better = [replace(run, number=run.number + 3, test_error=(run.test_error or 0) - 1) for run in runs]
    finalists = (Finalist(0, records[0].params, tuple(runs)), Finalist(1, records[1].params, tuple(better)))
    finals = Finals(finalists, 12, 3, 5, 0.95, 1438, 359, True, champion_number=1, champion_run=5)
    folder, prepared = StudyFolder.enter(output, "small"), data.prepare(DataSpec())
    found = export.chosen(STUDY, prepared, folder, records, finals, None)
    assert found.checkpoints == f"{folder.finals}/0005"
    assert found.spec == TrialSpec.from_flat({"net.depth": 14, "train.seed": 2})
    facts = found.facts
    assert (facts.training, facts.val_error, facts.trained_on) == ("trial 1, seed 2", None, 1438)
    assert (facts.tested, facts.test_error) == ({0: 1.0, 1: 3.0, 2: 2.0}, 2.0)
    unfinished = replace(finals, champion_number=None, champion_run=None)
    for asked in ((finals, 0), (unfinished, None)):
        assert export.chosen(STUDY, prepared, folder, records, *asked).checkpoints == f"{folder.trials}/0000"
    folder.leave()

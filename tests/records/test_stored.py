"""A study in its storage: whose it is, and that what it searches does not change under its trials. Real journals."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.errors import InputError
from search.records import Ledger, StoredStudy, TrialState, open_storage
from search.records.folder import Owner
from search.spec import PreparedInfo, StudySpec, appraise, load
from tests.support.epochs import epoch_of
from tests.support.mirrored import INFO as DIGITS

STUDY: dict[str, Any] = {
    "name": "study",
    "train": {"epochs": 2},
    "space": {"net.depth": [8, 14, 20], "train.lr": {"low": 0.01, "high": 0.5, "log": True}},
}
INFO = DIGITS.model_copy(update={"digest": "0123456789abcdef"})
BEGUN = "but study 'study' in /results/study was begun with"
HERE = Owner("1" * 32, "/results/study", shared=True, begun=False)


def opened(folder: Path, changes: Mapping[str, Any] = {}, owner: Owner = HERE, info: PreparedInfo = INFO) -> Ledger:
    spec = load(STUDY, list(changes.items()))
    space = spec.make_space(info.shape, len(info.classes))
    stored = StoredStudy(open_storage(folder / "optuna.journal"), spec.name)
    return stored.open(owner, spec, space, info, lambda t: appraise(t, (8, 8), spec.limits))


def with_a_trial(folder: Path, owner: Owner = HERE) -> Ledger:
    ledger = opened(folder, owner=owner)
    asked = ledger.add(
        {"net.in_channels": 1, "net.num_classes": 10, "train.epochs": 2, "net.depth": 8, "train.lr": 0.1}
    )
    assert asked is not None
    ledger.report(0, 1, 30.0, epoch_of(1.0, 100.0))
    ledger.finish(0, TrialState.PRUNED, "stopped")
    return ledger


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"search.trials": 48, "search.scheduler": "none", "search.max_concurrent": 1, "finals.seeds": 2},
        {
            "start": ["resnet20"],
            "tracking.uri": "http://mlflow",
            "data.dir": "elsewhere",
            "resources.cpus_per_trial": 2,
        },
        {"train.momentum": 0.9, "train.weight_decay": "1e-4"},  # the defaults, said aloud
        {"space.net.depth": {"choices": [8, 14, 20]}},
    ],
)
def test_what_goes_on_as_the_same_study(changes: Mapping[str, Any], tmp_path: Path) -> None:
    first = with_a_trial(tmp_path)
    again = opened(tmp_path, changes)
    assert (again.key, again.records) == (first.key, first.records)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"space.net.depth": [8, 14]}, f"net.depth = 8 | 14, {BEGUN} 8 | 14 | 20;"),
        ({"net.depth": 8}, f"net.depth = 8, {BEGUN} 8 | 14 | 20;"),
        ({"space.net.version": ["v1", "v2"]}, f"net.version = v1 | v2, {BEGUN} v1;"),
        ({"space.train.lr.low": 0.010000001}, f"train.lr = 0.010000001 ... 0.5 (log), {BEGUN} 0.01 ... 0.5 (log);"),
        ({"train.epochs": 4}, f"train.epochs = 4, {BEGUN} 2;"),
        ({"train.momentum": 0.8}, f"train.momentum = 0.8, {BEGUN} 0.9;"),
        ({"limits.params": "250k"}, f"limits.params = 250000, {BEGUN} None;"),
        ({"search.seed": 5}, f"search.seed = 5, {BEGUN} 0;"),
        (
            {"data.validation": 0.3, "train.epochs": 9},
            f"data.validation = 0.3, {BEGUN} 0.1 (also changed: train.epochs);",
        ),
    ],
)
def test_a_changed_study_is_refused(changes: Mapping[str, Any], told: str, tmp_path: Path) -> None:
    with_a_trial(tmp_path)
    before = (tmp_path / "optuna.journal").read_bytes()
    with pytest.raises(InputError) as refused:
        opened(tmp_path, changes)
    sentence = str(refused.value)
    assert sentence.startswith(told)
    assert sentence.endswith(
        " give the changed study another --name (start: {study: study} begins it with the best trials of this one), or "
        "begin this one again with --fresh"
    )
    assert (tmp_path / "optuna.journal").read_bytes() == before
    with pytest.raises(InputError, match=r"the digest of the images = ffff, but .* was begun with 0123456789ab; "):
        opened(tmp_path, info=INFO.model_copy(update={"digest": "ffff"}))


def test_what_has_no_trial_may_still_change(tmp_path: Path) -> None:
    first = opened(tmp_path)
    opened(tmp_path, {"train.epochs": 4})
    assert opened(tmp_path).key == first.key
    with_a_trial(tmp_path)
    with pytest.raises(InputError, match=r"train\.epochs = 4, but"):
        opened(tmp_path, {"train.epochs": 4})


@pytest.mark.parametrize(
    ("owner", "known"),
    [
        (Owner("2" * 32, "/other/study", shared=True, begun=True), False),
        (Owner("2" * 32, "/results/study", shared=True, begun=False), False),  # on another machine, nothing is of it
        (Owner("1" * 32, "/moved/study", shared=True, begun=True), True),
        (Owner("3" * 32, "/results/study", shared=True, begun=True), True),  # its id was damaged
        (Owner("4" * 32, "/anywhere", shared=False, begun=True), True),  # the journal is in the folder
    ],
)
def test_a_folder_is_known_wherever_it_is_and_no_other(owner: Owner, known: bool, tmp_path: Path) -> None:
    first = with_a_trial(tmp_path)
    if known:
        assert opened(tmp_path, owner=owner).records == first.records
        return
    with pytest.raises(InputError, match="'study' in this storage belongs to /results/study; use another --name"):
        opened(tmp_path, owner=owner)


def test_a_copy_is_not_the_folder(tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.mkdir()
    (original / "study.id").write_text("1" * 32 + "\n")
    owner = Owner("1" * 32, str(original), shared=True, begun=True)
    with_a_trial(tmp_path, owner)
    with pytest.raises(InputError, match=f"belongs to {original}; use another --name"):
        opened(tmp_path, owner=replace(owner, place=str(copy)))
    original.rename(copy)
    opened(tmp_path, owner=replace(owner, place=str(copy)))


def test_other_studies_of_the_storage_are_left_alone(tmp_path: Path) -> None:
    """One whose name is this one's with an ending, as finals have it, among them."""
    with_a_trial(tmp_path)
    there = Owner("2" * 32, "/results/study-finals", shared=True, begun=False)
    storage, spec = (
        open_storage(tmp_path / "optuna.journal"),
        StudySpec.model_validate(STUDY | {"name": "study-finals"}),
    )
    space, other = spec.make_space(INFO.shape, 10), StoredStudy(storage, "study-finals")
    other.open(there, spec, space, INFO, lambda t: appraise(t, (8, 8), spec.limits))
    StoredStudy(storage, "study").delete(there)
    assert StoredStudy(storage, "study").finished(HERE) == 1
    StoredStudy(storage, "study").delete(HERE)
    assert StoredStudy(storage, "study").search is None
    assert other.search is not None

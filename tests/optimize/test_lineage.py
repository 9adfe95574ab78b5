"""Studies whose space, recipe or limits were changed: what the next one takes over, on real journals."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.errors import InputError
from search.optimize import Lineage, Opened
from search.records import Owner, TrialState, open_storage
from search.spec import LimitSpec, appraise
from search.spec.space import make

ROOT = Path(__file__).parents[2]
FIXED: dict[str, Any] = {"net.in_channels": 1, "net.num_classes": 10, "train.epochs": 2}
DEPTHS: dict[str, Any] = {"net.depth": [8, 14, 20], "net.version": ["v1", "v2"]}


HERE = Owner("1" * 32, "/results/study", shared=True, begun=False)


def opened(
    folder: Path,
    space: Mapping[str, Any] = DEPTHS,
    fixed: Mapping[str, Any] = FIXED,
    limits: LimitSpec = LimitSpec(),  # noqa: B008
    owner: Owner = HERE,
) -> Opened:
    made = make(space, fixed)
    which = Lineage.identity(made, "digits", limits.model_dump())
    storage = open_storage(folder / "optuna.journal")
    return Lineage(storage, "study").open(owner, which, made, lambda spec: appraise(spec, (8, 8), limits))


def run(opened: Opened, depth: int, version: str, error: float, state: TrialState = TrialState.COMPLETE) -> None:
    """A trial of two epochs, or of one where it is stopped."""
    ledger = opened.ledger
    asked = ledger.add({**FIXED, "net.depth": depth, "net.version": version})
    assert asked is not None
    if state is not TrialState.FAILED:
        ledger.report(asked.number, 1, error + 10, 1.0, 100.0)
    if state is TrialState.COMPLETE:
        ledger.report(asked.number, 2, error, 1.0, 100.0)
    ledger.finish(asked.number, state, "stopped" if state is TrialState.PRUNED else None)


def three(folder: Path) -> Opened:
    first = opened(folder)
    run(first, 8, "v1", 30.0)
    run(first, 14, "v2", 20.0, TrialState.PRUNED)
    run(first, 20, "v1", 10.0)
    run(first, 20, "v2", 50.0, TrialState.FAILED)
    return first


def seen(opened: Opened) -> list[tuple[int, str, dict[int, float], str]]:
    return [(r.params["net.depth"], r.params["net.version"], r.curve, r.state.value) for r in opened.ledger.records]


EIGHT = (8, "v1", {1: 40.0, 2: 30.0}, "complete")
FOURTEEN = (14, "v2", {1: 30.0}, "pruned")
TWENTY = (20, "v1", {1: 20.0, 2: 10.0}, "complete")


def test_unchanged_is_the_same_study(tmp_path: Path) -> None:
    first = three(tmp_path)
    again = opened(tmp_path)
    assert (again.ledger.key, again.generation) == (first.ledger.key, 1)
    assert again.ledger.records == first.ledger.records
    assert again.starts == ()


def test_a_wider_space_takes_over_what_has_a_result(tmp_path: Path) -> None:
    first = three(tmp_path)
    wider = opened(tmp_path, DEPTHS | {"net.depth": [8, 14, 20, 26]})
    assert wider.generation == 2
    assert wider.ledger.key != first.ledger.key
    assert seen(wider) == [EIGHT, FOURTEEN, TWENTY], "the failed trial has no result"
    assert [r.origin for r in wider.ledger.records] == [0, 1, 2]
    assert wider.ledger.records[0].seconds == 2.0
    assert wider.starts == ()
    run(wider, 26, "v1", 5.0)
    assert opened(tmp_path, DEPTHS | {"net.depth": [8, 14, 20, 26]}).ledger.records == wider.ledger.records


@pytest.mark.parametrize(
    ("space", "fixed", "limits", "kept"),
    [
        (DEPTHS | {"net.depth": [8, 20]}, FIXED, LimitSpec(), [EIGHT, TWENTY]),
        ({"net.depth": [8, 14, 20]}, FIXED | {"net.version": "v2"}, LimitSpec(), [FOURTEEN]),
        # depth 20 has 6n + 2 layers with n = 3 and 0.27 M parameters (arXiv:1512.03385, Table 6); 8 and 14 have fewer
        (DEPTHS, FIXED, LimitSpec(params=250_000), [EIGHT, FOURTEEN]),
    ],
)
def test_what_no_longer_belongs_is_left_behind(
    space: Mapping[str, Any], fixed: Mapping[str, Any], limits: LimitSpec, kept: list[Any], tmp_path: Path
) -> None:
    three(tmp_path)
    assert seen(opened(tmp_path, space, fixed, limits)) == kept


def test_longer_training_begins_with_the_best_of_before(tmp_path: Path) -> None:
    three(tmp_path)
    longer = opened(tmp_path, fixed=FIXED | {"train.epochs": 4})
    assert not longer.ledger.records, "errors after two epochs of a schedule of two are not those of one of four"
    assert [(s["net.depth"], s["net.version"], s["train.epochs"]) for s in longer.starts] == [
        (20, "v1", 4),
        (8, "v1", 4),
    ]
    assert opened(tmp_path, fixed=FIXED | {"train.epochs": 4}).starts == longer.starts


def test_back_to_the_first_space(tmp_path: Path) -> None:
    first = three(tmp_path)
    narrower = opened(tmp_path, DEPTHS | {"net.depth": [8]})
    run(narrower, 8, "v2", 1.0)
    back = opened(tmp_path)
    assert (back.ledger.key, back.generation) == (first.ledger.key, 1)
    assert len(back.ledger.records) == 4
    assert opened(tmp_path, {"net.depth": [8]}, FIXED | {"net.version": "v2"}).generation == 3


def test_another_folder_of_the_same_name_is_refused(tmp_path: Path) -> None:
    three(tmp_path)
    for other in (
        Owner("2" * 32, "/other/study", shared=True, begun=True),
        Owner("2" * 32, "/results/study", shared=True, begun=False),  # on another machine, where nothing is of it
    ):
        with pytest.raises(InputError, match="'study' in this storage belongs to /results/study; use another --name"):
            opened(tmp_path, owner=other)


def test_a_folder_is_known_wherever_it_is(tmp_path: Path) -> None:
    first = three(tmp_path)
    for again in (
        Owner("1" * 32, "/moved/study", shared=True, begun=True),
        Owner("3" * 32, "/moved/study", shared=True, begun=True),  # its id was damaged
        Owner("3" * 32, "/moved again", shared=True, begun=True),
        Owner("4" * 32, "/anywhere", shared=False, begun=True),  # the journal is in the folder
    ):
        assert opened(tmp_path, owner=again).ledger.records == first.ledger.records


def test_a_copy_is_not_the_folder(tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.mkdir()
    (original / "study.id").write_text("1" * 32 + "\n")
    three_of = Owner("1" * 32, str(original), shared=True, begun=True)
    opened(tmp_path, owner=three_of)
    with pytest.raises(InputError, match=f"belongs to {original}; use another --name"):
        opened(tmp_path, owner=replace(three_of, place=str(copy)))
    original.rename(copy)
    opened(tmp_path, owner=replace(three_of, place=str(copy)))


@pytest.mark.parametrize("writes", range(1, 9))
def test_killed_while_it_takes_over(writes: int, tmp_path: Path) -> None:
    """The process dies at the given write of the new study; the next one finishes the work, and doubles nothing."""
    three(tmp_path)
    body = f"""
import os, sys
from pathlib import Path
from tests.optimize import test_lineage as t
from optuna.storages.journal import JournalFileBackend
whole, left = JournalFileBackend.append_logs, [{writes}]
def append(self, logs):
    whole(self, logs)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), 9)
JournalFileBackend.append_logs = append
t.opened(Path(sys.argv[1]), t.DEPTHS | {{"net.depth": [8, 14, 20, 26]}})
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", body, str(tmp_path)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    again = opened(tmp_path, DEPTHS | {"net.depth": [8, 14, 20, 26]})
    assert seen(again) == [EIGHT, FOURTEEN, TWENTY]
    assert again.generation == 2

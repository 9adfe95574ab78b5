"""Each prefix of a study's journal, as a crash leaves it, mirrored and then the rest, is as mirrored once."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from search.records import TrialState
from search.tracking import Store
from search.tracking.client import connect
from search.tracking.runs import RunWriter
from search.tracking.shown import Source
from search.tracking.stored import active_runs
from search.tracking.stored import stored as runs_of
from tests.support.empty_database import place
from tests.support.mirrored import INFO, Study

BEGIN = 3  # lines: the study, when it began, and its key
NOWHERE = Store("http://127.0.0.1:9", "e")
Make = Callable[[Callable[[Study], None]], Path]
Rows = list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[Path]], Rows]:
    """Mirrors folders one after another, each by a writer that knows what the server has, into a new experiment."""
    folder = tmp_path_factory.mktemp("replay")
    place(folder / "mlflow.db")
    client = connect(f"sqlite:///{folder}/mlflow.db")
    names = count()

    def mirror_all(folders: list[Path]) -> Rows:
        store = Store(f"sqlite:///{folder}/mlflow.db", f"e{next(names)}")
        experiment = client.create_experiment(store.experiment, f"{folder}/files")
        for one in folders:
            study = Study(one, NOWHERE)
            source = Source(study.spec, INFO, str(one), study.search, lambda study=study: study.finals)
            there = active_runs(runs_of(store, study.search.key))
            writer = RunWriter(client, experiment, source, there, {}, lambda call: call())
            for shown in source.shown():
                writer.write(shown, None)
        return stored(folder / "mlflow.db", experiment)

    return mirror_all


def stored(database: Path, experiment: str) -> Rows:
    """All that the experiment's runs consist of, by MLflow's own tables, with names in place of run ids."""
    queries = [
        "SELECT name, status, start_time, end_time, lifecycle_stage FROM runs WHERE experiment_id = ?",
        "SELECT name, p.key, p.value FROM params p JOIN runs USING (run_uuid) WHERE experiment_id = ?",
        "SELECT r.name, t.key, coalesce(parent.name, t.value) FROM tags t JOIN runs r USING (run_uuid) "
        "LEFT JOIN runs parent ON parent.run_uuid = t.value WHERE r.experiment_id = ?",
        "SELECT name, m.key, m.step, m.timestamp, m.value, m.is_nan FROM metrics m JOIN runs USING (run_uuid) "
        "WHERE experiment_id = ?",
        "SELECT r.name, d.name, d.digest FROM inputs i JOIN runs r ON r.run_uuid = i.destination_id "
        "JOIN datasets d ON d.dataset_uuid = i.source_id WHERE r.experiment_id = ?",
    ]
    with closing(sqlite3.connect(database)) as connection:
        return [row for query in queries for row in sorted(connection.execute(query, [experiment]), key=repr)]


def prefix(folder: Path, lines: int, to: Path) -> Path:
    """The study as it was when its journal had so many lines; after a power cut the next is half there."""
    to.mkdir()
    written = (folder / "optuna.journal").read_bytes().splitlines(keepends=True)
    torn = written[lines][: len(written[lines]) // 2] if lines < len(written) else b""
    (to / "optuna.journal").write_bytes(b"".join(written[:lines]) + torn)
    return to


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Of a complete trial with a seed in the finals, one that failed and one that waits; it has ended twice."""
    study = Study(tmp_path / "whole", NOWHERE)
    study.trial(epochs=2)
    failed, waits = study.start(14), study.start(20)
    study.report(waits, 1, **{"train/loss": float("nan")})
    study.search.finish(failed, TrialState.FAILED, "it broke", "Traceback ...")
    study.conclude("# So far", "interrupted", front=(0,))
    study.go_on()
    study.report(waits, 2)
    study.seed(0, 0, 4.0, epochs=2)
    study.conclude(front=(0, 2))
    return study.folder


@pytest.mark.slow
def test_every_prefix_then_the_rest(mirrored: Callable[[list[Path]], Rows], whole: Path, tmp_path: Path) -> None:
    once = mirrored([whole])
    names = {row[0] for row in once}
    assert names == {"digits", *(f"{n:03} depth {d} v1 identity" for n, d in enumerate((8, 14, 20)))} | {
        "000 depth 8 v1 identity seed 0"
    }
    lines = len((whole / "optuna.journal").read_bytes().splitlines())
    assert lines > 30
    cuts = [prefix(whole, n, tmp_path / str(n)) for n in range(BEGIN, lines + 1)]
    assert mirrored([*cuts, whole]) == once, "all of them, one after another"
    for cut in cuts[:: len(cuts) // 6]:
        assert mirrored([cut, whole]) == once
    assert mirrored([whole, whole]) == once


def test_the_front_moves(mirrored: Callable[[list[Path]], Rows], tmp_path: Path) -> None:
    """Trials that left the front are marked as such; the next end of the study that names no front clears it."""
    study = Study(tmp_path / "study", NOWHERE)
    for _ in range(3):
        study.start()
    ends: list[Path] = []
    for front in ((0, 1), (1, 2), ()):
        study.conclude(f"# {front}", front=front)
        ends.append(Path(shutil.copytree(study.folder, tmp_path / str(front))))
    for n, marks in enumerate(({0: True, 1: True}, {0: False, 1: True, 2: True}, {0: False, 1: False, 2: False}), 1):
        rows = mirrored(ends[:n])
        found = {row[0]: row[2] for row in rows if row[1] == "search.pareto"}
        assert found == {f"{number:03} depth 8 v1 identity": str(mark).lower() for number, mark in marks.items()}

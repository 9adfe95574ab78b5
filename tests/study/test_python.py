"""`from search import Study`: what it promises to a notebook or a script, apart from what the commands show as well."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest
from filelock import FileLock
from optuna.visualization import plot_optimization_history
from rich.console import Console

from search import InputError, Study, StudySpec
from search.activity import Activity
from search.records import TrialState
from search.storage import Output, Remote
from tests.export.test_export_study import DEPTHS, ERRORS, STUDY, searched, weights
from tests.support.object_store import at_url
from tests.support.process_state import PROGRAM

__all__ = ["weights"]  # a fixture
NESTED = {"net": {"depth": [8, 14]}, "train": {"lr": {"low": 0.05, "high": 0.2}}}
SMALL = {
    "data": {"name": "digits", "limit": 60},
    "train": {"epochs": 1, "batch_size": 32},
    "space": {"net": {"depth": [8], "version": ["v1", "v2"]}},
    "finals": {"top": 0},
}


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Output:
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    return Output(str(tmp_path / "results"))


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """When each file and folder was changed, and what is in it."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")
    }


def test_what_a_file_may_have_a_specification_may() -> None:
    flat = {"net.depth": [8, 14], "train.lr": {"low": 0.05, "high": 0.2}}
    assert StudySpec(name="mine", space=NESTED) == StudySpec(name="mine", space=flat)
    for given in ({"name": "mine", "space": NESTED}, StudySpec(name="mine", space=NESTED)):
        made = Study.create(given, trials=7, set={"train.momentum": 0.8})
        assert (made.name, made.spec.space, made.spec.search.trials) == ("mine", flat, 7)
        assert made.spec.train == {"momentum": 0.8}
    assert Study.create({"space": NESTED}, name="other").name == "other"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("digit",), "study 'digit' is unknown; did you mean 'digits'?"),
        (({"space": NESTED},), "study = .* has no name; give it one"),
        (({"name": "a", "space": {"net.depth": [9]}},), r"net depth 9 is not 6n\+2"),
    ],
)
def test_bad_input(given: tuple[Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Study.create(*given)


def test_a_change_that_is_none() -> None:
    with pytest.raises(InputError, match=r"trails changes nothing in a study; did you mean 'trials'\?"):
        Study.create("digits", trails=5)  # pyright: ignore[reportCallIssue]


def test_create_writes_nothing(output: Output, tmp_path: Path) -> None:
    study = Study.create({"name": "new", "space": NESTED}, output=output)
    assert (list(study.trials), study.finals, study.mlflow_url, study.champion) == ([], None, None, None)
    with pytest.raises(InputError, match=r"study 'new' in .* has not begun; start it with"):
        study.report()
    assert not (tmp_path / "results").exists()


def test_open_writes_nothing(output: Output, weights: Path, tmp_path: Path) -> None:
    """Not a byte, anywhere that the process is told to write; while another has the lock, as one at work does."""
    searched(output, weights, DEPTHS)
    place = output.path / "small"
    with FileLock(place / ".lock"):
        before = everything(tmp_path)
        study = Study.open(place)
        found = [(trial.params["net.depth"], trial.state, trial.val_error) for trial in study.trials]
        assert found == [(8, TrialState.PRUNED, 6.0), (14, TrialState.COMPLETE, 3.0), (20, TrialState.COMPLETE, 5.0)]
        frame = study.trials.to_frame()
        assert list(frame["net.depth"]) == [8, 14, 20]
        assert frame.loc[1, ["state", "val_error", "epochs"]].tolist() == ["complete", 3.0, 3]
        assert (study.finals, study.mlflow_url) == (None, None)
        drawn = plot_optimization_history(study.optuna)
        assert list(drawn.data[0].y) == [ERRORS[14], ERRORS[20]]
        with pytest.raises(InputError, match="was opened to be read"):
            study.optuna.set_user_attr("a", 1)
        with pytest.raises(InputError, match=r"was opened to be read; Study.create\(...\) continues it"):
            study.run()
        assert everything(tmp_path) == before


def test_at_a_url(output: Output, weights: Path, tmp_path: Path) -> None:
    searched(output, weights, DEPTHS)
    place: Remote = at_url(output.path / "small", f"memory://{tmp_path.name}/small")
    store = fsspec.filesystem("memory")
    try:
        before = everything(tmp_path), {name: place.get(name) for name in place.files()}
        study = Study.open(f"memory://{tmp_path.name}/small")
        assert [trial.val_error for trial in study.trials] == [6.0, 3.0, 5.0]
        assert study.trials == Study.open("small", output=output).trials
        assert (everything(tmp_path), {name: place.get(name) for name in place.files()}) == before
    finally:
        store.rm(f"/{tmp_path.name}", recursive=True)


def test_a_changed_study_is_refused_and_begins_under_another_name(output: Output, weights: Path) -> None:
    """The former's errors are 3 % of 14 layers and 5 % of 20; that of 8 layers was stopped early."""
    searched(output, weights, DEPTHS)
    longer = STUDY.model_dump(mode="json") | {"train": {"epochs": 5, "batch_size": 32}}
    kept = everything(output.path / "small")
    with pytest.raises(InputError, match=r"train.epochs = 5, but study 'small' in .*/small was begun with 3; give the"):
        Study.create(longer, output=output).run()
    written = {path for path, content in everything(output.path / "small").items() if content != kept.get(path)}
    assert written <= {str(output.path / "small"), str(output.path / "small" / ".holder")}
    with pytest.raises(InputError, match=r"start: study 'smal' is not in .*did you mean 'small'"):
        Study.create(longer, output=output, name="longer", set={"start": {"study": "smal"}})
    study = Study.create(longer, output=output, name="longer", set={"start": {"study": "small", "best": 1}})
    for _ in range(2):  # what it begins with is on record, and no longer looked up
        with study._driver(Console(), Activity(), sync=False) as driver:
            asked = driver.search.proposer.example
            assert asked is not None
            assert (asked["net.depth"], asked["train.epochs"]) == (14, 5)
            if not driver.ledger.records:
                driver.ledger.add(asked)
                shutil.rmtree(output.path / "small")


def test_a_finished_study_goes_on_only_where_a_word_asks_for_it(output: Output, weights: Path) -> None:
    asked = STUDY.model_dump(mode="json", exclude={"search", "finals"}) | {"finals": {"top": 0}}
    done = StudySpec(**asked, search={"trials": 3})
    searched(output, weights, DEPTHS, done)
    assert not Study.create(done, output=output).sync()[0].interrupted
    kept = everything(output.path / "small")
    more = StudySpec(**asked, search={"trials": 24, "reduction": 4})
    told = (
        r"search.trials = 24, but study 'small' in .* is complete with 3 \(also changed: search.reduction\); nothing "
    )
    with pytest.raises(
        InputError, match=f"{told}was trained: ask for it by --trials 24, .* another --name, or --fresh to"
    ):
        Study.create(more, output=output, set={"search.first_rung": 1}).run()
    written = {path for path, content in everything(output.path / "small").items() if content != kept.get(path)}
    assert written <= {str(output.path / "small"), str(output.path / "small" / ".holder")}
    named = Study.create(more, output=output, trials=24, set={"search.reduction": 4, "search.first_rung": 1})
    with named._driver(Console(), Activity(), sync=False) as driver:
        assert (driver.finished, driver.complete) == (3, False)


def test_the_names_of_the_package_load_nothing_heavy() -> None:
    heavy = "{'torch', 'ray', 'optuna', 'mlflow'}"
    code = f"import sys; from search import InputError, Halted; print({heavy} & {{*sys.modules}})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "set()\n"


@pytest.mark.slow
@pytest.mark.long
def test_the_process_is_as_it_was(tmp_path: Path) -> None:
    """After a study that is run to its end, and one that fails in the middle, on a thread that is not the main one.

    The program has no `if __name__ == "__main__"`.
    """
    (tmp_path / "script.py").write_text(PROGRAM)
    (tmp_path / "study.json").write_text(json.dumps(SMALL))
    environment = os.environ | {"PYTHONPATH": str(Path.cwd()), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    ended = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    told = json.loads(ended.stdout.splitlines()[-1])
    assert told["trials"] == ["complete", "complete"]
    assert told["answer"].startswith("Nothing is recommended: the lowest validation error, ")
    assert told["fault"] == "IsADirectoryError"
    assert told["changed"] == {"completed": {}, "failed": {}}

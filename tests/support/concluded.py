"""A small study with finals, and whether it is concluded: in its folder, and as MLflow's own client sees it."""

import shutil
import uuid
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import resnet
from search.data import prepare
from search.spec import DataSpec
from search.tracking.client import connect
from tests.support.empty_database import tracked
from tests.support.study_process import STUDY, command
from tests.support.whole import report_of

TRIALS, SEEDS, TOP = 3, 2, 2
FINALS = {"top": TOP, "seeds": SEEDS, "max_seeds": SEEDS}


def arguments(folder: Path, **changes: object) -> list[str]:
    """The command of the study; all trials are complete, so that there are finalists."""
    flags = "--trials", str(TRIALS), "--scheduler", "none"
    return command(tracked(folder), *flags, **({"finals": FINALS} | changes))


def assert_concluded(folder: Path) -> None:
    """Report, champion, one registered version of it, and every run over, once; nothing half-written is left."""
    study = folder / "results" / "tiny"
    assert {p.name for p in study.rglob(".*") if "trials" not in p.parts and "finals" not in p.parts} <= {
        ".lock",
        ".holder",
    }
    finals = report_of(folder)["finals"]
    best = next(f for f in finals["finalists"] if f["number"] == finals["champion"])
    chosen = next(run for run in best["runs"] if run["number"] == finals["champion_run"])
    assert report_of(folder)["classes"]["error"] == pytest.approx(chosen["test_error"])
    assert (study / "report.html").read_text().rstrip().endswith("</html>")

    test = prepare(DataSpec.model_validate(STUDY["data"])).test()
    told = resnet.load(study / "champion").predict(np.array(test.images))
    wrong = np.mean(np.array([int(name) for name in told]) != np.array(test.labels))
    # Of an image between two classes bfloat16 may say another; workers test in it where the processor has it.
    assert abs(100 * wrong - chosen["test_error"]) < 101 / len(test.labels)

    seen = folder / f"seen-{uuid.uuid4().hex}.db"  # a client knows a database by its name
    shutil.copy(folder / "results" / "mlflow.db", seen)
    client = connect(f"sqlite:///{seen}")
    (model,) = client.search_registered_models()
    (version,) = client.search_model_versions(f"name = '{model.name}'")
    assert client.get_model_version_by_alias("tiny", "champion").version == version.version
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    kinds = Counter(run.data.tags["search.kind"] for run in runs)
    assert kinds == {"study": 1, "trial": TRIALS, "seed": TOP * SEEDS}
    assert {run.info.status for run in runs} == {"FINISHED"}
    of = next(run.data.tags for run in runs if run.info.run_id == version.run_id)
    assert (of["search.trial"], of["search.seed"]) == (str(best["number"]), str(chosen["seed"]))
    (ended,) = (run for run in runs if run.data.tags["search.kind"] == "study")
    assert ended.data.tags["search.state"] == "complete"
    assert ended.data.metrics["test/seeds"] == SEEDS

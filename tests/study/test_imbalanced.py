"""A whole study of two classes, 1 to 10 in number, that seeks the mean of their errors; and what its report says."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

import resnet
from search import InputError, Study
from search.data import prepare
from search.spec import DataSpec
from search.training import Predictions

pytestmark = [pytest.mark.slow, pytest.mark.long]
NAMES = ["<b>&", "eight"]


def study(folder: Path) -> dict[str, Any]:
    return {
        "name": "rare",
        "data": {"name": f"npz:{folder}/rare.npz", "test": 0.5},
        "train": {"epochs": 2, "batch_size": 16, "crop_padding": 0, "flip": False, "class_weights": "balanced"},
        "space": {"net.depth": [8], "train.lr": [0.02, 0.1]},
        "search": {"trials": 2, "scheduler": "none", "objectives": ["val_balanced_error", "macs"]},
        "finals": {"top": 2, "seeds": 2, "max_seeds": 2},
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    """A study of 183 threes and 18 eights, run to its end."""
    folder = tmp_path_factory.mktemp("rare")
    images, digits = load_digits(return_X_y=True)
    chosen = np.concatenate([np.flatnonzero(digits == 3), np.flatnonzero(digits == 8)[:18]])
    pixels = np.round(images[chosen] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    labels = (digits[chosen] == 8).astype(np.int64)
    np.savez(folder / "rare.npz", x_train=pixels, y_train=labels, class_names=np.array(NAMES))
    begun = Study.create(study(folder), output=str(folder / "results"))
    assert begun.run().worked
    return folder, begun


@pytest.fixture(scope="module")
def told(made: tuple[Path, Study]) -> dict[str, Any]:
    return json.loads((made[0] / "results" / "rare" / "report.json").read_text())


@pytest.fixture(scope="module")
def answers(made: tuple[Path, Study]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels of the test images, and what the exported network says of them."""
    test = prepare(DataSpec.model_validate(study(made[0])["data"])).test()
    names = resnet.load(made[0] / "results" / "rare" / "champion").predict(np.array(test.images))
    return np.array(test.labels), np.array([NAMES.index(name) for name in names])


def test_the_report_has_the_answers_of_the_exported_network(
    made: tuple[Path, Study], told: dict[str, Any], answers: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> None:
    run, (labels, given) = told["finals"]["champion_run"], answers
    kept = Predictions.of_training(str(made[0] / "results" / "rare" / "finals" / f"{run:04d}"))
    assert kept is not None
    assert np.array_equal(kept.labels, labels)
    assert (kept.given != given).sum() <= 1, "of an image between two classes bfloat16 may say another"
    by_class = told["classes"]["classes"]
    matrix = [[one["given"].get(name, 0) for name in NAMES] for one in by_class]
    assert matrix == confusion_matrix(labels, kept.given).tolist()
    assert [one["images"] for one in by_class] == np.bincount(labels).tolist()
    balanced = 100 * (1 - balanced_accuracy_score(labels, kept.given))
    assert told["classes"]["balanced_error"] == pytest.approx(balanced)


def test_finals_compare_the_mean_of_the_classes_errors(made: tuple[Path, Study], told: dict[str, Any]) -> None:
    """Every training by what its own file says; the error of all images is in the records, too."""
    for finalist in told["finals"]["finalists"]:
        for run in finalist["runs"]:
            kept = Predictions.of_training(str(made[0] / "results" / "rare" / "finals" / f"{run['number']:04d}"))
            assert kept is not None
            expected = 100 * (1 - balanced_accuracy_score(kept.labels, kept.given))
            assert run["test_error"] == pytest.approx(expected)
    assert told["settings"]["objectives"] == ["val_balanced_error", "macs"]
    about = json.loads((made[0] / "results" / "rare" / "champion" / "config.json").read_text())["about"]
    assert about["measure"] == "balanced_error"
    card = (made[0] / "results" / "rare" / "champion" / "README.md").read_text()
    assert "Test balanced error" in card


def test_trials_are_compared_by_it(made: tuple[Path, Study], told: dict[str, Any]) -> None:
    for trial in made[1].trials:
        metrics = trial.metrics[trial.epochs].values
        assert trial.val_error == metrics["val/balanced_error"] == told["trials"][trial.number]["val_error"]
    assert {"val/error", "val/balanced_error"} <= made[1].trials[0].metrics[1].values.keys()


def test_the_page_shows_each_wrong_image(
    made: tuple[Path, Study], told: dict[str, Any], answers: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> None:
    page = (made[0] / "results" / "rare" / "report.html").read_text()
    shown = re.findall(r'<img src="data:image/png;base64,([^"]*)"', page)
    assert len(shown) == min(12, told["classes"]["wrong"])
    assert all(base64.b64decode(text).startswith(b"\x89PNG") for text in shown)
    assert "<b>&<" not in page
    assert "&lt;b&gt;&amp;" in page
    assert "test balanced error" in page
    assert "validation balanced error" in page


def test_a_report_made_again_says_the_same(made: tuple[Path, Study], told: dict[str, Any]) -> None:
    """It reads what was kept, no test images: the data are gone."""
    folder, _ = made
    (folder / "rare.npz").rename(folder / "away.npz")
    try:
        again = Study.open("rare", output=str(folder / "results")).report()
        assert json.loads(again.json.read_text())["classes"] == told["classes"]
    finally:
        (folder / "away.npz").rename(folder / "rare.npz")


def test_another_error_is_another_study(made: tuple[Path, Study]) -> None:
    changed = study(made[0]) | {"search": study(made[0])["search"] | {"objectives": ["val_error"], "trials": 3}}
    with pytest.raises(InputError, match=r"search.objectives\[0\] = val_error, but .* begun with val_balanced_error"):
        Study.create(changed, output=str(made[0] / "results")).run()

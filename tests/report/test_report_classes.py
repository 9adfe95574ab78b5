"""What the report says of the test images by class, against scikit-learn and values worked out by hand."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from search import report
from search.data import Split
from search.report import figures_finals, tables
from search.report.analysis import Analysis
from search.training import Predictions
from search.training.loop import Evaluation
from tests.report.test_report_finals import SCHEMA
from tests.support import sample_finals as sample
from tests.support import sample_study


def answers(classes: int = 10, n: int = 360, wrong: float = 0.1, channels: int = 1, names: bool = False) -> Predictions:
    """Of n images, class 0 the most frequent; a part of them is taken for another class."""
    rng = np.random.default_rng(3)
    labels = np.minimum(rng.geometric(0.3, n) - 1, classes - 1)
    given = np.where(rng.random(n) < wrong, (labels + rng.integers(1, classes, n)) % classes, labels)
    images = rng.integers(256, size=(n, 6, 6, channels), dtype=np.uint8)
    found = Evaluation(0.1, labels, given, rng.random(n).astype(np.float32))
    return Predictions.of(found, Split(images, labels), [f"a/<i>{k}.jpg" for k in range(n)] if names else ())


def written(folder: Path, found: Predictions | None, **changes: Any) -> tuple[dict[str, Any], str, str]:
    """report.json by its schema, report.html and report.md."""
    made = report.write(folder, sample.summary(**changes), sample_study.trials(), {}, True, found)
    content = json.loads(made.json.read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(content)
    return content, made.html.read_text(), made.markdown.read_text()


def named(*classes: str) -> dict[str, Any]:
    return {"data": sample_study.summary().data | {"classes": list(classes)}}


def pictures(page: str) -> list[Image.Image]:
    found = re.findall(r'<img src="data:image/png;base64,([^"]*)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def test_numbers_are_those_of_sklearn(tmp_path: Path) -> None:
    found = answers()
    told = written(tmp_path, found)[0]["classes"]
    lost = found.labels != found.given
    assert (told["images"], told["wrong"], told["error"]) == (360, lost.sum(), pytest.approx(100 * lost.mean()))
    balanced = 100 * (1 - balanced_accuracy_score(found.labels, found.given))
    assert told["balanced_error"] == pytest.approx(balanced)
    assert told["balanced_interval"]["low"] < balanced < told["balanced_interval"]["high"]
    matrix = [[one["given"].get(str(k), 0) for k in range(10)] for one in told["classes"]]
    assert matrix == confusion_matrix(found.labels, found.given, labels=range(10)).tolist()
    for one in told["classes"]:
        assert list(one["given"].values()) == sorted(one["given"].values(), reverse=True)
        assert one["images"] == sum(one["given"].values())
    surest = sorted(found.probability[lost], reverse=True)[:12]
    assert [one["probability"] for one in told["mistakes"]] == pytest.approx(surest)
    assert [one["image"] for one in told["mistakes"]] == found.shown.tolist()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("wrong", [0.01, 0.2])
def test_a_picture_for_each_wrong_image_and_12_at_most(tmp_path: Path, channels: int, wrong: float) -> None:
    found = answers(wrong=wrong, channels=channels)
    shown = pictures(written(tmp_path, found)[1])
    assert len(shown) == min(12, (found.labels != found.given).sum())
    for picture, pixels in zip(shown, found.images, strict=True):
        assert np.array_equal(np.asarray(picture).reshape(6, 6, channels), pixels)


def test_names_are_escaped(tmp_path: Path) -> None:
    """Those of classes and of files, in the page, in its figures and in Markdown."""
    names = ("<b>&", "| x", *"23456789")
    content, page, text = written(tmp_path, answers(wrong=0.5, names=True), **named(*names))
    assert "&lt;b&gt;&amp;" in page
    assert "<b>&<" not in page
    figures = page.partition('<script type="application/json" id="figures">')[2].partition("</script>")[0]
    assert "<" not in figures
    assert "&lt;b&gt;&amp;" in json.loads(figures)["confusion"]["layout"]["xaxis"]["ticktext"]
    assert "a/&lt;i&gt;" in page
    assert "<i>" not in page.partition("<script>")[0]
    assert content["classes"]["classes"][0]["name"] == "<b>&"
    assert r"| \| x |" in text
    assert "| &lt;b>& |" in text


def test_a_network_without_a_wrong_answer(tmp_path: Path) -> None:
    content, page, text = written(tmp_path, answers(wrong=0.0))
    assert "No test image is wrong." in page
    assert "No test image is wrong." in text
    assert pictures(page) == content["classes"]["mistakes"] == []
    assert (content["classes"]["wrong"], content["classes"]["balanced_error"]) == (0, 0)


def test_a_class_without_test_images(tmp_path: Path) -> None:
    found = answers(classes=9)
    one = written(tmp_path, found)[0]["classes"]["classes"][9]
    assert one == {"name": "9", "images": 0, "wrong": 0, "error": None, "interval": None, "given": {}}
    of = Analysis.of(sample.summary(), sample_study.trials(), {}, found)
    assert of.balanced[0] == pytest.approx(100 * (1 - balanced_accuracy_score(found.labels, found.given)))
    table = tables.classes(of)
    assert table is not None
    assert [cell.text for cell in table.rows[-1].cells.values()] == ["9", "0", "n/a", "n/a", ""]


@pytest.mark.parametrize(("classes", "drawn"), [(30, True), (31, False), (100, False)])
def test_of_many_classes_the_most_confused_are_named(tmp_path: Path, classes: int, drawn: bool) -> None:
    found = answers(classes=classes, n=3000, wrong=0.3)
    names = [f"class {k}" for k in range(classes)]
    of = Analysis.of(sample.summary(**named(*names)), sample_study.trials(), {}, found)
    assert (figures_finals.confusion(of) is not None) == drawn
    pairs, matrix = tables.confused(of), found.confusion(classes)
    np.fill_diagonal(matrix, 0)
    assert pairs is not None
    counts = [int(row.cells["images"].text) for row in pairs.rows]
    assert counts == sorted(matrix.ravel().tolist(), reverse=True)[:20]
    content, page, _ = written(tmp_path, found, **named(*names))
    assert len(content["classes"]["classes"]) == classes
    assert ("most often" in page) != drawn


def test_without_a_champion_or_answers_there_is_nothing(tmp_path: Path) -> None:
    assert written(tmp_path, None)[0]["classes"] is None
    unfinished = sample.summary(finals=sample.finals(complete=False))
    of = Analysis.of(unfinished, sample_study.trials(), {}, answers())
    assert of.classes == of.mistakes == ()

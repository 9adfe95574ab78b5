"""`python -m search.predict`: names of classes for pictures, by the champion of a study or an exported folder."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

from search.predict import main
from tests.support.exported import Made

pytest_plugins = ["tests.support.fixtures_export"]


@pytest.fixture
def pictures(made: Made, tmp_path: Path) -> list[str]:
    """Five images of the test split."""
    files = [tmp_path / f"{k}.png" for k in range(5)]
    for file, image in zip(files, made.images, strict=False):
        Image.fromarray(image[..., 0]).save(file)
    return list(map(str, files))


def test_a_line_for_each_picture(
    made: Made, pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the network says that was never exported; in a study its champion is asked."""
    chances = softmax(made.logits[:5].astype(float), axis=1)
    expected = [(file, str(row.argmax()), row.max()) for file, row in zip(pictures, chances, strict=True)]
    shutil.copytree(made.folder, tmp_path / "results" / "mine" / "champion")
    for asked in ([str(made.folder)], ["mine", "--output", str(tmp_path / "results")]):
        assert main([*asked, *pictures]) == 0
        out, err = capsys.readouterr()
        told = [re.fullmatch(r"(.+): (\d) \(([\d.]+) %\)", line) for line in out.splitlines()]
        assert [(t[1], t[2]) for t in told if t] == [(file, label) for file, label, _ in expected]
        assert [float(t[3]) for t in told if t] == pytest.approx([100 * chance for *_, chance in expected], abs=0.06)
        assert err == ""
    assert main([str(made.folder), *pictures, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["image"], one["label"]) for one in found] == [(file, label) for file, label, _ in expected]
    given = np.array([[one["probabilities"][str(k)] for k in range(10)] for one in found])
    assert np.abs(given - chances).max() < 1e-4


def test_a_bad_picture_is_told_and_the_others_are_looked_at(
    made: Made, pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colour, broken, large = tmp_path / "colour.png", tmp_path / "broken.png", tmp_path / "large.png"
    Image.new("RGB", (8, 8), "red").save(colour)
    broken.write_bytes(Path(pictures[0]).read_bytes()[:40])
    Image.open(pictures[0]).resize((20, 24)).save(large)
    missing = tmp_path / "missing.png"
    assert main([str(made.folder), *map(str, (colour, broken, missing, large)), pictures[1]]) == 2
    out, err = capsys.readouterr()
    assert [line.partition(": ")[0] for line in out.splitlines()] == [str(large), pictures[1]]
    red, half, none, note = err.splitlines()
    assert red == f"error: {colour}: the image is in colour, and this network reads grey; convert it to L"
    assert half.startswith(f"error: {broken}: ")
    assert none == f"error: {missing} does not exist"
    assert note.startswith(f"note: {large}: the image is 20 x 24 pixels, and this network was trained on 8 x 8: ")


def test_no_network(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: str) -> str:
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n"), err[:7]) == ("", 1, "error: ")
        return err

    here = ("any.png", "--output", str(tmp_path))
    assert "holds no study" in refused("mine", *here)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "study.yaml").write_text("name: mine\ndata: digits\nspace:\n  net.depth: [8, 14]\n")
    assert "did you mean 'mine'?" in refused("min", *here)
    assert "study 'mine' has no champion here; let it come to its end" in refused("mine", *here)
    folder = shutil.copytree(made.folder, tmp_path / "damaged")
    (folder / "model.safetensors").write_bytes(b"nothing")
    assert "model.safetensors is not the file that config.json was written with" in refused(str(folder), *here)
    assert "the following arguments are required: IMAGE" in refused("mine")

"""The PNG files of a report: which there are, that they are pictures, and that equal results give equal bytes."""

from pathlib import Path

import numpy as np
from PIL import Image

from search import report
from search.records import StudySummary, TrialRecord
from tests.support import sample_finals as finals
from tests.support import sample_study as sample

ACCENT = (0xCF, 0x5F, 0x06)  # of the champion, on the light page


def written(folder: Path, summary: StudySummary, trials: list[TrialRecord]) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    shares = {"net.depth": 0.7, "train.lr": 0.3} if trials else {}
    return {path.stem: path for path in report.write(folder, summary, trials, shares).images}


def test_pictures_are_the_same_every_time(tmp_path: Path) -> None:
    first = written(tmp_path / "a", finals.summary(), sample.trials())
    again = written(tmp_path / "b", finals.summary(), sample.trials())
    assert list(first) == ["finalists", "learning-curves", "effects", "front"]
    assert all(path.parent == tmp_path / "a" / "report" for path in first.values())
    for name, path in first.items():
        assert path.read_bytes() == again[name].read_bytes()


def test_pictures_show_the_champion_in_its_colour_and_nothing_is_blank(tmp_path: Path) -> None:
    for summary, trials in ((finals.summary(), sample.trials()), (finals.comparing(), [])):
        for name, path in written(tmp_path / "study", summary, trials).items():
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB")).astype(int)
            assert pixels.shape[1] == 1200  # 8 inches of 150
            assert (pixels.min(axis=(0, 1)) < 64).all()  # text
            if name in ("finalists", "learning-curves", "front"):
                assert (np.abs(pixels - ACCENT).max(axis=2) < 4).sum() > 50, name


def test_pictures_of_before_go(tmp_path: Path) -> None:
    written(tmp_path, finals.summary(), sample.trials())
    left = written(tmp_path, sample.summary(), sample.trials()[:1])
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == sorted(path.name for path in left.values())
    assert "finalists" not in left
    assert written(tmp_path, sample.summary(), []) == {}
    assert list((tmp_path / "report").iterdir()) == []


def test_signs_of_formulas_and_tags_are_text(tmp_path: Path) -> None:
    evil = "</script> $x^{$ <b>"
    (front,) = (p for n, p in written(tmp_path, sample.summary(name=evil), sample.trials()).items() if n == "front")
    assert front.stat().st_size > 10_000

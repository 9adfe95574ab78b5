"""The cursor: a cache of what MLflow has, that may be lost, damaged or old."""

from pathlib import Path

import pytest

from search.tracking import Cursor
from search.tracking.cursor import Mark


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    told: list[Path] = []
    cursor = Cursor("here", "1", {"study": "a", "0": "b", "0.2": "c"}, {"0": Mark("", 3, "running 0 ")})
    cursor.save(tmp_path / Cursor.FILE, told.append)
    again = Cursor.at(tmp_path / Cursor.FILE)
    assert (again, told) == (cursor, [tmp_path / Cursor.FILE])
    assert again.sent["0"] == Mark("", 3, "running 0 ")
    assert (again.study, again.trials, again.seeds) == ("a", {0: "b"}, {(0, 2): "c"})
    assert [path.name for path in tmp_path.iterdir()] == [Cursor.FILE]


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b'{"store": "here", "ru',
        b'{"store": 5}',
        b'{"store": "here", "runs": []}',
        b'{"store": "here", "runs": {"0": 7}}',
        b'{"store": "here", "sent": {"0": ["", "3", ""]}}',
        b'{"store": "here", "sent": {"0": ["", 3]}}',
        b"[]",
        b"5",
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_damaged_one_says_that_nothing_was_sent(damaged: bytes) -> None:
    assert Cursor.parse(damaged) == Cursor.parse(None) == Cursor()

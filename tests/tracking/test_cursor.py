"""The cursor: a cache of what MLflow has, that may be lost, damaged or old."""

import pytest

from search.tracking import Cursor


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

"""Where trials are kept: the journal as a killed process leaves it, and databases by their URL."""

import json
from pathlib import Path

import pytest
from optuna.storages import InMemoryStorage

from search.errors import InputError
from search.storage import open_storage
from search.study_sections import Sampler, SearchSpec
from tests.simulated import Setting, play

STUDY = Setting(SearchSpec(sampler=Sampler.RANDOM, trials=6, first_rung=1, reduction=2, seed=5), epochs=3)


def test_a_database_holds_the_same_study(tmp_path: Path) -> None:
    """SQLite, opened anew after every result; equal to the journal's, to the bit."""
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    in_database = play(STUDY, open_storage(tmp_path / "unused", url))
    again = play(STUDY, open_storage(tmp_path / "unused", url))
    assert not (tmp_path / "unused").exists()
    in_journal = play(STUDY, tmp_path)
    assert again == in_database == in_journal == play(STUDY, InMemoryStorage())
    assert {r.state.value for r in in_database} >= {"complete", "pruned"}


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("nowhere", "Could not parse"),
        ("sqlite:////nonexistent/folder/studies.db", "unable to open database file"),
        ("mongodb://localhost/studies", "Can't load plugin"),
    ],
)
def test_a_url_that_does_not_open(url: str, cause: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        open_storage(tmp_path / "unused", url)
    text = str(refused.value)
    assert text.startswith(f"search.storage = {url!r} cannot be opened (")
    assert cause in text
    assert text.endswith("; correct the URL, or leave it out for a journal file")
    assert "\n" not in text


@pytest.mark.parametrize("tail", [b'{"op_code": 4, "worker', b"", b"\n\x00\x00"])
def test_half_a_line_is_dropped_and_no_whole_one(tail: bytes, tmp_path: Path) -> None:
    journal = tmp_path / "optuna.journal"
    before = play(STUDY, tmp_path)
    lines = journal.read_bytes()
    journal.write_bytes(lines + tail)
    (tmp_path / "optuna.journal.lock").symlink_to("optuna.journal")
    assert play(STUDY, tmp_path) == before
    assert not (tmp_path / "optuna.journal.lock").is_symlink()
    if not tail.startswith(b"\n"):
        assert journal.read_bytes() == lines
        assert all(json.loads(line) for line in lines.splitlines())

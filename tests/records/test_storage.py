"""Where trials are kept: the journal as a killed process leaves it, and databases by their URL."""

import json
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from search.errors import InputError
from search.records import open_storage
from search.spec import Sampler, SearchSpec
from tests.support.simulated import Setting, play

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


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    play(STUDY, tmp_path)
    return tmp_path / "optuna.journal"


def refusal(journal: Path) -> str:
    with pytest.raises(InputError) as refused:
        open_storage(journal)
    assert str(refused.value).startswith(f"{journal} is damaged")
    assert str(refused.value).endswith("; restore it from a copy, or begin again with --fresh --yes")
    return str(refused.value)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "5",
        "null",
        "[]",
        "{}",
        '"word"',
        '{"op_code":4',
        '{"op_code":99,"worker_id":"x"}',
        '{"op_code":4,"worker_id":"x"}',
        '{"op_code":0,"worker_id":"x","study_name":"y","directions":[7]}',
        '{"op_code":8,"worker_id":"x","trial_id":[],"user_attr":{"a":1}}',
        "[" * 100_000,
        "\0" * 9,
    ],
    ids=lambda line: line[:20] or "empty",
)
def test_a_line_that_is_no_record_is_named(line: str, journal: Path) -> None:
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:7], line, *lines[7:]]) + "\n")
    assert "in line 8;" in refusal(journal)
    journal.write_text("\n".join([*lines, '{"op_code":4']) + "\n")  # of the last one Optuna says nothing
    assert f"in line {len(lines) + 1};" in refusal(journal)


def test_a_line_that_is_missing_is_noticed_at_the_next(journal: Path) -> None:
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) > 20
    for missing in range(len(lines) - 1):
        journal.write_text("".join(lines[:missing] + lines[missing + 1 :]))
        assert f": line {missing + 1} was changed, or lines before it are missing;" in refusal(journal)
    journal.write_text("".join(lines))
    open_storage(journal)


def test_a_line_that_was_changed_or_moved_is_noticed(journal: Path) -> None:
    text = journal.read_text()
    lines = text.splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if '"intermediate_value":' in line)
    record = json.loads(lines[at])
    changed = json.dumps({**record, "intermediate_value": record["intermediate_value"] + 1}) + "\n"
    for others in ([changed], [lines[at + 1], lines[at]], [lines[at], lines[at]]):
        journal.write_text("".join([*lines[:at], *others, *lines[at + len(set(others)) :]]))
        assert "was changed, or lines before it are missing;" in refusal(journal)


def trials(storage: BaseStorage) -> list[optuna.trial.FrozenTrial]:
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).trials


def test_optuna_reads_the_journal_and_may_add_to_it(journal: Path) -> None:
    """As optuna-dashboard does, which opens it in this way and adds notes."""
    plain = JournalStorage(JournalFileBackend(str(journal)))
    assert trials(plain) == trials(open_storage(journal))
    identity = plain.get_study_id_from_name(optuna.get_all_study_names(plain)[0])
    plain.set_study_system_attr(identity, "note", "from the dashboard")
    ours = open_storage(journal)
    plain.set_study_system_attr(identity, "note", "while the study is open")
    ours.set_study_user_attr(identity, "ours", 1)
    open_storage(journal).set_study_user_attr(identity, "ours", 2)
    ours.set_study_user_attr(identity, "ours", 3)
    again = open_storage(journal)
    assert again.get_study_system_attrs(identity)["note"] == "while the study is open"
    assert again.get_study_user_attrs(identity)["ours"] == 3

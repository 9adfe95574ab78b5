"""Notices to a real server that fails at first, and to a program; what is said of them holds no secret."""

import json
from pathlib import Path

from search.spec import StudySpec, load
from search.study.notify import END_SECONDS, Notices, missing
from tests.support.notices import serving
from tests.support.study_process import STUDY


def spec(notify: object) -> StudySpec:
    return load({**STUDY, "notify": notify})


def test_a_server_that_fails_twice_is_told_once_in_order() -> None:
    with serving(503, 500) as server:
        notices = Notices(spec(server.url), "s3://user:word@bucket/tiny?secret=1")
        notices.send("champion", "Use a net.", "from postgresql://me:pass@host/db")
        notices.send("finished", "Use a net.")
        assert notices.close() is None
    assert [body["event"] for _, body in server.got] == ["champion", "finished"]
    path, first = server.got[0]
    assert path == "/services/T0/secret-in-path?token=hidden"
    assert (first["study"], first["text"]) == ("tiny", "tiny: Use a net.")
    assert not {"word", "secret", "pass"} & set(json.dumps(first).replace("@", "/").replace(":", "/").split("/"))


def test_a_server_that_does_not_answer_is_not_waited_for_and_not_quoted() -> None:
    with serving(*[None] * 9) as server:  # it waits until this is left
        notices = Notices(spec(server.url), "results/tiny")
        notices.send("finished", "Use a net.")
        trouble = notices.close()
    assert trouble == f"notify: 127.0.0.1 has not answered within {END_SECONDS:g} s; the study is not affected"


def test_a_refusal_is_told_without_the_address() -> None:
    with serving(*[404] * 9) as server:
        notices = Notices(spec(server.url), "results/tiny")
        notices.send("halted", "the disk is full")
        trouble = notices.close()
    assert trouble == "notify: 127.0.0.1 did not take a notice (HTTP status 404); the study is not affected"


def test_a_program_reads_the_notice(tmp_path: Path) -> None:
    """It fails at first, too."""
    code = 'test -e "$0"; was=$?; cat > "$0"; exit $was'
    notices = Notices(spec({"command": ["sh", "-c", code, str(tmp_path / "seen")]}), "results/tiny")
    notices.send("finished", "Use a net.")
    assert notices.close() is None
    assert json.loads((tmp_path / "seen").read_text())["event"] == "finished"


def test_records_keep_the_host_alone_and_a_continued_study_says_so() -> None:
    asked = spec("https://user:pass@hooks.example.com:8443/services/T0/token?key=other#more")
    for text in (asked.to_yaml(), str(asked.flat())):
        assert "https://hooks.example.com:8443/***" in text
        assert not any(secret in text for secret in ("user", "pass@", "token", "other"))
    assert missing(asked) is None
    kept = spec(asked.public()["notify"])
    told = missing(kept)
    assert told is not None
    assert "--set notify=URL" in told
    notices = Notices(kept, "results/tiny")
    notices.send("finished", "Use a net.")
    assert notices.close() is None, "nobody is told"

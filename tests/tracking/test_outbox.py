import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from search.errors import InputError
from search.records import TrialState
from search.tracking.events import ChampionChosen, EpochEnded, StudyEnded, TrialEnded, TrialStarted
from search.tracking.outbox import Cursor, Outbox


def epoch(number: int, of: int = 0, error: float = 5.0) -> EpochEnded:
    return EpochEnded(time_ms=1_000 * number, number=of, epoch=number, metrics={"val/error": error})


def lines(path: Path) -> list[dict[str, object]]:
    """The log by a strict reading of JSON, which has no NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def test_events_come_back_as_they_were(tmp_path: Path) -> None:
    events = [
        TrialStarted(time_ms=1, number=3, name='trial "3"\n', params={"net.depth": "20"}, trial_json='{"a": "µ"}'),
        epoch(1),
        TrialEnded(time_ms=9, number=3, state=TrialState.PRUNED, reason="stopped", artifacts=("/tmp/x",)),
        StudyEnded(time_ms=10, state="complete", note="# 20 layers\n"),
    ]
    outbox = Outbox(tmp_path / "name" / "outbox.jsonl")
    for event in events:
        outbox.append(event)
    assert [event for event, _ in Outbox(outbox.path).events()] == events
    assert [line["kind"] for line in lines(outbox.path)] == ["trial_started", "epoch", "trial_ended", "study_ended"]


def test_files_of_a_folder_that_was_moved(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "here" / "outbox.jsonl")
    weights, elsewhere = str(tmp_path / "here" / "trials" / "0000" / "model.safetensors"), "/tmp/x"
    for paths in ((weights, elsewhere), ("s3://bucket/tiny/report.json",)):
        outbox.append(TrialEnded(time_ms=9, number=3, state=TrialState.COMPLETE, artifacts=paths))
    outbox.append(ChampionChosen(time_ms=9, number=3, folder=str(tmp_path / "here" / "champion"), tested=(1.0,)))
    (tmp_path / "here").rename(tmp_path / "there")
    first, second, third = (event for event, _ in Outbox(tmp_path / "there" / "outbox.jsonl").events())
    assert isinstance(first, TrialEnded)
    assert isinstance(second, TrialEnded)
    assert isinstance(third, ChampionChosen)
    assert first.artifacts == (weights.replace("/here/", "/there/"), elsewhere)
    assert second.artifacts == ("s3://bucket/tiny/report.json",)
    assert third.folder == str(tmp_path / "there" / "champion")


def test_values_that_json_lacks(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.jsonl")
    for value in (math.nan, math.inf, -math.inf):
        outbox.append(epoch(1, error=value))
    assert [line["metrics"] for line in lines(outbox.path)] == [
        {"val/error": text} for text in ("NaN", "Infinity", "-Infinity")
    ]
    values = [event.metrics["val/error"] for event, _ in outbox.events() if isinstance(event, EpochEnded)]
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_torn_last_line_is_cut_away(tmp_path: Path, cut: int) -> None:
    outbox = Outbox(tmp_path / "outbox.jsonl")
    for number in (1, 2, 3):
        outbox.append(epoch(number))
    outbox.close()
    os.truncate(outbox.path, outbox.path.stat().st_size - cut)
    again = Outbox(outbox.path)
    again.append(epoch(4))
    assert [line["epoch"] for line in lines(outbox.path)] == [1, 2, 4]
    assert again.unsent == 3


def test_any_other_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "outbox.jsonl"
    outbox = Outbox(path)
    outbox.append(epoch(1))
    with path.open("a") as log:
        log.write('{"kind": "epoch", "number": 0}\n')
    outbox.append(epoch(2))
    with pytest.raises(
        InputError, match=r"outbox.jsonl is damaged in line 2; restore it from a copy, or remove that line"
    ):
        list(Outbox(path).events())


def test_what_was_sent_stays_sent(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.jsonl")
    for number in (1, 2, 3):
        outbox.append(epoch(number))
    ends = [end for _, end in outbox.events()]
    outbox.commit(Cursor(ends[1], "here", {"0": "abc"}), 2)
    again = Outbox(outbox.path)
    assert (again.unsent, again.cursor.runs, again.cursor.store) == (1, {"0": "abc"}, "here")
    assert [event.metrics for event, _ in again.events(again.cursor.offset)] == [{"val/error": 5.0}]  # type: ignore[union-attr]
    again.rewind("elsewhere")
    assert (again.unsent, again.cursor) == (3, Cursor(0, "elsewhere", {}))


@pytest.mark.parametrize(
    "cursor",
    [
        b"",
        b'{"offset": 99',
        b'{"offset": 100000, "store": "", "runs": {}}',
        b'{"offset": 5, "store": "here", "runs": {}}',  # in the middle of an event
        b'{"offset": -1, "store": "here", "runs": {}}',
        b'{"offset": "0", "store": "here", "runs": {}}',
        b'{"offset": 0, "store": "here", "runs": []}',
        b'{"offset": 0, "store": "here", "runs": {"0": 7}}',
        b'{"other": 1}',
        b"[]",
        b"5",
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_damaged_cursor_sends_everything_again(tmp_path: Path, cursor: bytes) -> None:
    outbox = Outbox(tmp_path / "outbox.jsonl")
    outbox.append(epoch(1))
    (tmp_path / "outbox.cursor.json").write_bytes(cursor)
    assert (Outbox(outbox.path).unsent, Outbox(outbox.path).cursor) == (1, Cursor())


def test_a_full_disk_harms_no_earlier_event(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.jsonl")
    outbox.append(epoch(1))
    size = outbox.path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))  # the next line is cut after 10 bytes
    try:
        with pytest.raises(OSError, match="File too large"):
            outbox.append(epoch(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert outbox.path.stat().st_size == size
    outbox.append(epoch(3))
    assert [line["epoch"] for line in lines(outbox.path)] == [1, 3]
    assert outbox.unsent == 2


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.jsonl")
    writers = [
        threading.Thread(target=lambda of=of: [outbox.append(epoch(number, of)) for number in range(100)])
        for of in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    written = [(line["number"], line["epoch"]) for line in lines(outbox.path)]
    assert sorted(written) == [(of, number) for of in range(4) for number in range(100)]
    assert outbox.unsent == 400


WRITER = """
import itertools, pathlib, sys
from search.tracking.outbox import EpochEnded, Outbox
outbox = Outbox(pathlib.Path(sys.argv[1]))
for number in itertools.count(1):
    outbox.append(EpochEnded(time_ms=1, number=0, epoch=number, metrics={"val/error": 1.0}))
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_a_killed_writer_loses_nothing_it_was_told_is_written(tmp_path: Path) -> None:
    path = tmp_path / "outbox.jsonl"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(200)]
        writer.kill()
        told += [int(line) for line in writer.stdout.read().splitlines() if line]
    written = [event.epoch for event, _ in Outbox(path).events() if isinstance(event, EpochEnded)]
    assert written[: len(told)] == told == list(range(1, len(told) + 1))
    assert len(written) - len(told) in {0, 1}  # the last one may have been written and not yet told

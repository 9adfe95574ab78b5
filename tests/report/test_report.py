"""The report's figures and words, against values worked out by hand."""

import json
import re
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from search import formatting, report
from search.records import StudySummary, TrialRecord, Trials, TrialState
from search.records.gain import Gain
from search.report.analysis import Analysis
from search.report.effects import by_value
from tests.support import sample_finals as finals
from tests.support import sample_study as sample


def trial(number: int, error: float | None, state: TrialState = TrialState.COMPLETE, **more: Any) -> TrialRecord:
    curve = {} if error is None else {1: 50.0, 2: error}
    params = {"net.depth": 20, "net.version": "v2", "net.shortcut": "identity"}
    return TrialRecord(number, state, params, epochs=len(curve), curve=curve, **more)


def caveats(summary: StudySummary, *trials: TrialRecord) -> str:
    return " ".join(Analysis.of(summary, trials).answer.caveats)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not strict JSON")


def tables(markdown: str) -> list[list[dict[str, str]]]:
    """The Markdown tables of a text, rows as heading -> cell."""
    found: list[list[dict[str, str]]] = []
    for block in re.findall(r"(?:^\|.*\|$\n?)+", markdown, flags=re.MULTILINE):
        lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]
        head, rule, *rows = [[cell.strip() for cell in line] for line in lines]
        assert all(re.fullmatch(r"---:?", cell) for cell in rule)
        assert {len(row) for row in rows} <= {len(head)}
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


def test_no_error_at_all_is_not_certainty() -> None:
    assert trial(0, 0.0).margin(300) == pytest.approx(1.0)  # the rule of three: 3 / 300
    assert trial(0, 0.0).margin(2) == 100.0  # and no error is above 100 %
    summary = sample.summary(data={"name": "d", "validation": 300})
    assert "No wrong image of 300 is compatible with a true error of up to 1 %" in caveats(summary, trial(0, 0.0))


def test_weights_that_were_missing_are_named() -> None:
    missing = "resnet18-f37072fd.pth cannot be fetched (no network), so no trial starts from ImageNet weights"
    told = Analysis.of(sample.summary(missing_weights=missing), sample.trials()).answer.more
    assert told.count(f"{missing}.") == 1


def test_best_is_the_lowest_complete_then_the_cheaper_then_the_earlier() -> None:
    complete = [trial(5, 3.0, macs=100), trial(1, 2.0, macs=200), trial(4, 2.0, macs=90), trial(3, 2.0, macs=90)]
    complete += [trial(2, 2.0), trial(0, nan)]
    pruned = trial(6, 0.5, TrialState.PRUNED, macs=1)
    assert [t.number for t in Trials([*complete, pruned]).ranked()] == [3, 4, 1, 2, 5, 6]


def test_a_pruned_trial_is_named_only_where_none_is_complete() -> None:
    pruned, failed = trial(1, 7.0, TrialState.PRUNED), trial(0, 1.0, TrialState.FAILED)
    assert Trials([failed, pruned]).best is pruned
    assert "stopped early: no trial is complete" in report.short_answer(sample.summary(), [failed, pruned])
    assert "stopped early" not in report.short_answer(sample.summary(), [failed, pruned, trial(2, 9.0)])


def test_no_result_at_all_is_said_in_one_sentence(tmp_path: Path) -> None:
    ended = [trial(0, None, TrialState.FAILED), trial(1, None, TrialState.FAILED), trial(2, 60.0, TrialState.DIVERGED)]
    told = "No network can be recommended: none of {} trials has a result{}.\n"
    assert report.write(tmp_path, sample.summary(), ended, {}).answer == told.format(3, " (2 failed, 1 diverged)")
    assert report.short_answer(sample.summary(), []) == told.format(0, "")
    assert json.loads((tmp_path / "report.json").read_text())["best"] is None


def test_the_gain_of_more_search_is_told_on_the_pages_alone(tmp_path: Path) -> None:
    told = "More search: another hour is expected to bring 0.25 points (one in ten: more than 1.50)."
    summary = sample.summary(gain=Gain(3600, 0.25, 1.5))
    written = report.write(tmp_path, summary, sample.trials(), {})
    assert all(told in file.read_text(encoding="utf-8") for file in (written.markdown, written.html))
    assert told not in written.answer
    known = json.loads(written.json.read_text(encoding="utf-8"))["expected_gain"]
    assert known == {"seconds": 3600, "points": 0.25, "tenth": 1.5}
    report.write(tmp_path, sample.summary(), sample.trials(), {})
    assert "More search" not in written.markdown.read_text(encoding="utf-8")


def test_rivals_lie_within_one_standard_error() -> None:
    trials = [trial(0, 10.0), trial(1, 12.0), trial(2, 13.0), trial(3, 14.0), trial(4, 11.0, TrialState.PRUNED)]
    assert [t.number for t in Trials(trials).rivals(images=100)] == [1, 2]  # 10 + 3 points
    assert Trials().rivals(images=100) == ()


def test_effect_compares_at_one_epoch_whatever_came_later() -> None:
    first = replace(trial(0, 3.0), params={"net.depth": 8}, curve={1: 40.0, 2: 3.0})
    stopped = replace(trial(1, 9.0, TrialState.PRUNED), params={"net.depth": 20}, curve={1: 30.0})
    without = replace(trial(2, 9.0), params={}, curve={1: 20.0})
    unreached = replace(trial(3, None, TrialState.FAILED), params={"net.depth": 14})
    groups = by_value([without, stopped, first, unreached], "net.depth", epoch=1)
    found = {value: [error for _, error in members] for value, members in groups.items()}
    assert list(found.items()) == [("8", [40.0]), ("20", [30.0]), ("n/a", [20.0])]


@pytest.mark.parametrize(
    ("number", "shown"),
    [(None, "n/a"), (650, "650"), (14_000, "14k"), (269_722, "0.27M"), (1_000_000, "1.0M"), (1_727_962, "1.7M"),
     (40_551_808, "41M"), (253_000_000, "253M"), (1_230_000_000, "1.2G"),
     *[(0.84, "0.8 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (92.0, "1 min 32 s"), (7500.0, "2 h 05 min")]],
)  # fmt: skip
def test_magnitudes_read_as_in_the_papers_and_seconds_as_on_a_clock(number: float | None, shown: str) -> None:
    assert (formatting.duration(number) if isinstance(number, float) else formatting.magnitude(number)) == shown
    assert formatting.duration(None) == "n/a"


@pytest.mark.parametrize(
    ("depth", "version", "shortcut", "phrase"),
    [
        (20, "v2", "identity", "a 20-layer v2 residual network with identity shortcuts"),
        (8, "v1", "conv1x1", "an 8-layer v1 residual network with 1x1-convolution shortcuts"),
        (18, "v1", "exclusive_gate", "an 18-layer v1 residual network with exclusive-gate shortcuts"),
        (110, "v1", "none", "a 110-layer plain network (v1 order, no shortcuts)"),
    ],
)
def test_networks_in_words(depth: int, version: str, shortcut: str, phrase: str) -> None:
    params = {"net.depth": depth, "net.version": version, "net.shortcut": shortcut}
    assert formatting.network_sentence(params | {"train.start": "scratch"}) == phrase
    pretrained = formatting.network_sentence(params | {"train.start": "imagenet"})
    assert pretrained == f"a pretrained {phrase.partition(' ')[2]}"


def test_answer_is_one_sentence_and_a_table() -> None:
    trials = [
        replace(t, epochs=12, curve={12: 100 * (4 + t.number) / 287}, params_count=269_722, macs=2_546_000)
        for t in (trial(n, 0.0) for n in range(7))
    ]
    for one in trials:
        one.params["net.unit"] = "basic"
        one.params["train.lr"] = 0.1 * (1 + one.number)
    answer = report.short_answer(sample.summary(), trials)
    assert answer.splitlines()[0] == (
        "Use a 20-layer v2 residual network with identity shortcuts: 1.4 % validation error (4 of 287 images) after 12"
        " epochs."
    )
    assert "Found by trial 0, of basic units, 0.27M parameters and 2.5M MACs, with lr 0.1" in answer
    (table,) = tables(answer)
    assert [row["trial"] for row in table] == ["0", "1", "2", "3", "4"]
    assert table[1] == {
        "rank": "2", "trial": "1", "depth": "20", "version": "v2", "shortcut": "identity", "lr": "0.2",
        "val error": "1.7 %", "epochs": "12 of 12", "params": "0.27M", "MACs": "2.5M", "time": "n/a",
    }  # fmt: skip


@pytest.mark.parametrize("images", [287, 5000])
def test_the_number_of_wrong_images_survives_the_way_through_percent(images: int) -> None:
    summary = sample.summary(data={"name": "d", "validation": images})
    for wrong in range(0, images + 1, 41):
        assert f"({wrong} of {images} images)" in report.short_answer(summary, [trial(0, 100 * wrong / images)])


def test_caveats_name_what_cannot_be_told_apart() -> None:
    trials = [trial(n, 100 * wrong / 287) for n, wrong in enumerate((4, 5, 5, 6, 9))]  # standard error 0.69: up to 5
    told = caveats(sample.summary(stopped="time budget of 30m spent"), *trials)
    assert "not test error: of the best of 5 complete trials, each trained once" in told
    assert "standard error is 0.69 points" in told
    assert re.search(r"2 other configurations lie within that .*: trial 1 \(.*\), trial 2 \([^,]*\)\.", told)
    assert "ended after 5 of 24 trials: time budget of 30m spent." in told


def test_json_is_strict_and_whole(tmp_path: Path) -> None:
    trials = [*sample.trials()]
    trials[9] = replace(trials[9], curve={1: 50.0, 2: nan, 3: inf})
    path = report.write(tmp_path, sample.summary(), trials[::-1], {"net.depth": 1.0}).json
    content = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert content["schema_version"] == 2
    assert content["answer"].startswith("Use a 20-layer")
    assert 3 <= len(content["caveats"]) <= 5
    assert content["study"] == "digits"
    assert content["counts"] == {"complete": 11, "pruned": 9, "failed": 1, "infeasible": 1, "diverged": 2}
    assert [row["number"] for row in content["trials"]] == list(range(24))
    assert content["best"] == content["trials"][10]
    assert content["trials"][9]["curve"] == [[1, 50.0], [2, None], [3, None]]
    assert content["trials"][9]["val_error"] is None
    assert content["trials"][9]["best_val_error"] == 50.0
    assert content["trials"][13]["reason"] == trials[13].reason
    assert content["data"]["shape"] == [8, 8, 1]
    assert content["settings"] == {
        "epochs": 12, "first_rung": 3, "trials": 24, "sampler": "auto", "scheduler": "asha", "seed": 0,
        "objectives": ["val_error"], "limits": {},
    }  # fmt: skip
    assert content["pareto"] == content["infeasible"] == []


def test_json_documents_every_key(tmp_path: Path) -> None:
    documented = set(re.findall(r"^\| `(\w+)`", (Path(__file__).parents[2] / "docs" / "report.md").read_text(), re.M))
    content = json.loads(report.write(tmp_path, finals.summary(), sample.trials(), {}).json.read_text())
    finalist = content["finals"]["finalists"][0]
    parts = (content, content["best"], content["finals"], finalist, finalist["runs"][0])
    assert set().union(*parts) == documented


def test_markdown_tables(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("old")
    written = report.write(tmp_path, sample.summary(), sample.trials(), {"net.shortcut": 0.75, "train.lr": 0.25})
    ranking, choices, shares, ended, space, study = tables(written.markdown.read_text())
    assert {row["parameter"] for row in choices} == {"net.depth", "net.version", "net.shortcut"}
    assert ranking[0]["trial"] == "10"
    assert {row["gate bias"] for row in ranking if row["shortcut"] != "exclusive_gate"} == {"n/a"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "report.md"]
    assert [row["rank"] for row in ranking] == [*map(str, range(1, 21)), "", "", "", ""]
    by_state = {row["state"]: [one["trial"] for one in ended if one["state"] == row["state"]] for row in ended}
    ends = {"stopped": 9, "diverged": 2, "failed": 1, "infeasible": 1}
    assert {state: len(found) for state, found in by_state.items()} == ends
    assert by_state["diverged"] == ["9", "17"]
    (failed,) = (row["reason"] for row in ended if row["state"] == "failed")
    assert failed == "RuntimeError: &lt;b>unexpected&lt;/b> \\| shape 4x4 & more"
    assert [(row["parameter"], row["importance"]) for row in shares] == [("net.shortcut", "0.75"), ("train.lr", "0.25")]
    assert {row["parameter"] for row in space} == sample.summary().space.keys()
    facts = {row["what"]: row["value"] for row in study}
    assert (facts["data: shape"], facts["data: classes"]) == ("8 x 8 x 1", "10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9")
    assert facts["hardware"] == sample.summary().hardware


def test_a_missing_folder_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        report.write(tmp_path / "absent", sample.summary(), sample.trials(), {})


def test_a_network_says_the_size_of_its_images_where_trials_have_their_own() -> None:
    params = {"net.depth": 18, "net.version": "v2", "net.shortcut": "identity", "train.image_size": 96, "train.lr": 0.1}
    paths = ["train.lr", "train.image_size"]
    assert formatting.configuration(params, paths) == "18-layer v2 identity at 96 pixels, lr 0.1"
    sentence = "an 18-layer v2 residual network with identity shortcuts"
    assert formatting.network_sentence(params) == f"{sentence} at 96 pixels"
    assert formatting.network_sentence(params | {"train.image_size": 0}) == sentence

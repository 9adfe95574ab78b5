"""The Pareto front, against its definition and against fronts drawn by hand."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from search import report
from search.records import StudySummary, TrialRecord, Trials, TrialState
from search.report import figures
from search.report.analysis import Analysis
from search.spec import Objective
from tests.report.test_report import tables, trial
from tests.support import sample_study as sample

ERROR, MACS, PARAMS = Objective.VAL_ERROR, Objective.MACS, Objective.PARAMS
SPEED, SECONDS = Objective.IMAGES_PER_S, Objective.SECONDS


def numbers(trials: Sequence[TrialRecord]) -> list[int]:
    return [one.number for one in trials]


def test_by_hand() -> None:
    points = [(100, 5.0), (100, 4.0), (200, 4.0), (300, 2.0), (400, 3.0), (50, 9.0), (500, 2.0), (300, 2.0)]
    trials = [trial(number, error, macs=macs) for number, (macs, error) in enumerate(points)]
    assert numbers(Trials(trials).front([ERROR, MACS])) == [5, 1, 3, 7]  # 3 and 7 are equal: neither beats the other
    assert numbers(Trials(trials).front([ERROR])) == [3, 6, 7]
    assert Trials().front([ERROR, MACS]) == ()
    others = [trial(1, 0.1, TrialState.PRUNED, macs=1), trial(2, 0.2), trial(3, float("nan"), macs=1)]
    others += [trial(4, 0.1, TrialState.RUNNING, macs=1), trial(5, 0.1, TrialState.DIVERGED, macs=1)]
    assert numbers(Trials([*others, trial(0, 5.0, macs=100)]).front([ERROR, MACS])) == [0], "complete, with both"


@pytest.mark.parametrize("objectives", [(ERROR, MACS), (ERROR, MACS, PARAMS), (ERROR, SPEED, MACS, SECONDS)])
def test_the_definition(objectives: tuple[Objective, ...]) -> None:
    """Not dominated: nothing is at least as good in all objectives and better in one. Few values, so that many tie."""
    draw = Random(0)
    for _ in range(50):
        rows = [[draw.randrange(4) for _ in objectives] for _ in range(12)]
        trials: list[TrialRecord] = []
        for number, row in enumerate(rows):
            fields = dict(zip(objectives, row, strict=True))
            more: dict[str, Any] = {"macs": fields.get(MACS), "params_count": fields.get(PARAMS)}
            more |= {"seconds": fields.get(SECONDS), "images_per_s": fields.get(SPEED)}
            trials.append(trial(number, float(fields[ERROR]), **more))
        small = [[-v if o is SPEED else v for v, o in zip(row, objectives, strict=True)] for row in rows]
        dominated = {
            b
            for a, b in itertools.permutations(range(len(rows)), 2)
            if small[a] != small[b] and all(x <= y for x, y in zip(small[a], small[b], strict=True))
        }
        assert set(numbers(Trials(trials).front(objectives))) == set(range(len(rows))) - dominated


def sentence(summary: StudySummary, trials: Sequence[TrialRecord]) -> str:
    return Analysis.of(summary, trials).answer.sentence


def three() -> list[TrialRecord]:
    params = {"net.unit": "basic"}
    made = [trial(0, 100 * 40 / 287, macs=750_000, params_count=75_002, images_per_s=1771.0, seconds=1.0)]
    made += [trial(1, 100 * 10 / 287, macs=1_600_000, params_count=172_000, images_per_s=1206.0, seconds=4.0)]
    made += [trial(2, 100 * 50 / 287, macs=1_600_000, params_count=172_000, images_per_s=1206.0, seconds=5.0)]
    return [replace(one, params=one.params | params | {"net.depth": 8 + 6 * one.number}) for one in made]


def test_the_answer_names_the_front() -> None:
    summary = sample.summary(objectives=(ERROR, MACS))
    answer = report.short_answer(summary, three())
    assert answer.splitlines()[0] == (
        "2 networks are not beaten in both validation error and MACs: from 8-layer v2 identity (13.9 %, 0.75M MACs) to"
        " 14-layer v2 identity (3.5 %, 1.6M MACs)."
    )
    (table,) = tables(answer)
    assert [(row["rank"], row["trial"]) for row in table] == [("1", "1"), ("2", "0")]
    assert sentence(sample.summary(), three()).startswith("Use a 14-layer")
    in_three = sentence(sample.summary(objectives=(ERROR, SPEED, SECONDS)), three())
    assert "not beaten in all of validation error, images/s and training time" in in_three
    assert "8-layer v2 identity (13.9 %, 1,771 images/s)" in in_three
    one = sentence(summary, three()[1:])
    assert one.startswith("Use a 14-layer")
    assert one.endswith("after 2 epochs; no other complete trial is better in MACs.")


def test_the_files_of_several_objectives(tmp_path: Path) -> None:
    summary = sample.summary(objectives=(ERROR, MACS, SPEED))
    written = report.write(tmp_path, summary, three(), {})
    assert written.front == (0, 1)
    found, *_ = tables(written.markdown.read_text())
    assert [(row["trial"], row["images/s"]) for row in found] == [("1", "1,206"), ("0", "1,771")]
    page = written.html.read_text()
    assert page.count('class="plot" id="cost-') == 2
    assert '<td data-sort="1" class="number">yes</td>' in page
    assert report.write(tmp_path, sample.summary(), three(), {}).front == ()
    assert "yes</td>" not in written.html.read_text()


def test_the_plot_marks_the_front() -> None:
    def drawn(*objectives: Objective) -> tuple[list[float], list[float], str]:
        figure = figures.cost(Analysis.of(sample.summary(objectives=objectives), three()), objectives[1])
        assert figure is not None
        (trace,) = (t for t in figure.data if t.name == "Pareto front")
        return list(trace.x), list(trace.customdata), trace.mode

    assert drawn(ERROR, MACS) == ([750_000, 1_600_000], [0, 1], "lines+markers")
    assert drawn(ERROR, SPEED) == ([1206.0, 1771.0], [1, 0], "lines+markers")
    assert drawn(ERROR, SPEED, MACS) == ([1206.0, 1771.0], [1, 0], "markers")  # three objectives: no line in a plane


def test_proposals_beyond_the_limits_are_counted_and_nothing_else(tmp_path: Path) -> None:
    limits = {"params": 300_000, "macs": 1_000_000}
    summary = sample.summary(limits=limits, stopped="all 27 configurations of the space have been tried")
    beyond = [
        replace(
            trial(24 + n, None, TrialState.INFEASIBLE, params_count=10**6, macs=10**7, reason=f"reason {n}"),
            violation=1.0,
            exceeded=("params",) if n else ("params", "macs"),
        )
        for n in range(3)
    ]
    told = "3 proposals were beyond the limits (params above 300,000: 3; macs above 1,000,000: 1) and never trained."
    without = report.write(tmp_path, sample.summary(limits=limits), sample.trials(), {})
    content = (without.json.read_text(), without.html.read_text(), without.markdown.read_text())
    written = report.write(tmp_path, summary, [*beyond, *sample.trials()], {})
    assert told in written.markdown.read_text()
    assert told in written.html.read_text()
    assert written.answer.count("|") == without.answer.count("|")
    assert "24 of 24 trials: all 27 configurations of the space have been tried." in written.answer
    assert written.html.read_text().count("<tr data-trial") == content[1].count("<tr data-trial") == 24
    assert "24 of 24: 11 complete, 9 pruned, 1 failed, 1 infeasible, 2 diverged" in written.markdown.read_text()
    assert '"reason 2"' in written.json.read_text()
    assert '"number": 26' not in content[0]
    assert report.short_answer(sample.summary(limits=limits, stopped="1,000 proposals were"), beyond) == (
        "No network can be recommended: no trial was started (1,000 proposals were).\n"
    )


def test_a_report_is_of_the_study_that_it_was_written_for(tmp_path: Path) -> None:
    summary = sample.summary()
    assert not report.is_of(tmp_path, summary)
    report.write(tmp_path, summary, three(), {})
    assert report.is_of(tmp_path, sample.summary(elapsed_seconds=7.0))
    for change in ({"objectives": (ERROR, MACS)}, {"limits": {"params": 5}}, {"space": {}}, {"trials": 25}):
        assert not report.is_of(tmp_path, sample.summary(**change))
    for damage in (b"", b"[]", b"5", b"null", b"\xff\xfe", b"[" * 100_000, b'{"study": []}', b'{"study": "dig'):
        (tmp_path / "report.json").write_bytes(damage)
        assert not report.is_of(tmp_path, summary)

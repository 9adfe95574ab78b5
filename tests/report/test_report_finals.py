"""What a report says of finals, against scipy, published tables of statistics and values worked out by hand."""

import json
import re
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import jsonschema
import pytest
from scipy import stats

from search import report
from search.export.trained import Facts
from search.optimize.finals import with_champion
from search.records import Finalist, Finals, SeedRun, TrialState
from search.report import files, tables
from search.report.analysis import Analysis, DeviceHours
from search.report.finals import flattery, largest_of, standings
from search.spec import Objective
from search.tracking import shown
from tests.report.test_report import refuse
from tests.support import sample_finals as sample
from tests.support import sample_study

SCHEMA = json.loads((Path(files.__file__).parent / "assets" / "report.schema.json").read_text(encoding="utf-8"))
BEST = [100 * wrong / 360 for wrong in sample.WRONG[10]]
SECOND = [100 * wrong / 360 for wrong in sample.WRONG[5]]


def checked(folder: Path, **changes: Any) -> dict[str, Any]:
    """report.json of the sample with finals, strict and by its schema."""
    trials = changes.pop("trials", sample_study.trials())
    return valid(report.write(folder, sample.summary(**changes), trials, {"net.depth": 1.0}))


def valid(written: report.Report) -> dict[str, Any]:
    content = json.loads(written.json.read_text(encoding="utf-8"), parse_constant=refuse)
    jsonschema.Draft202012Validator(SCHEMA).validate(content)
    return content


def finals(*finalists: tuple[float | None, ...], **changes: Any) -> Finals:
    """Finalists 0, 1, ... with these test errors by seed (None: a training that diverged), on 10,000 images."""
    made: list[Finalist] = []
    for number, errors in enumerate(finalists):
        states = [TrialState.DIVERGED if error is None else TrialState.COMPLETE for error in errors]
        runs = tuple(SeedRun(10 * number + k, k, states[k], 1, test_error=error) for k, error in enumerate(errors))
        made.append(Finalist(number, {"net.depth": 20 + number, "net.version": "v2", "net.shortcut": "identity"}, runs))
    whole = [f for f in made if all(run.test_error is not None for run in f.runs)]
    champion = min(whole, key=lambda f: fmean(f.tested), default=None)
    more = {"finalists": tuple(made), "tested_on": 10_000, "champion_number": champion.number if champion else None}
    return sample.finals(**(more | changes))


def more(found: Finals) -> str:
    return " ".join(Analysis.of(sample.summary(finals=found), sample_study.trials()).answer.more)


def answer(found: Finals) -> str:
    return report.short_answer(sample.summary(finals=found), sample_study.trials()).splitlines()[0]


def test_the_sentence_of_finalists_that_cannot_be_told_apart() -> None:
    # 5.2 of 360 images; standard deviation of 5, 6, 4, 6, 5 images 0.8367; Student's 97.5 % quantile of 4 is 2.7764
    told = Analysis.of(sample.summary(), sample_study.trials()).answer
    assert told.sentence == (
        "Use a 20-layer v2 residual network with identity shortcuts: 1.44 ± 0.23 % test error;"
        " 20-layer v2 identity (trial 5), at the same MACs, is not distinguishable."
    )
    assert told.settings.startswith(
        "Mean ± standard deviation of 5 seeds on 360 test images, 95 % interval 1.16 to 1.73."
        " 20-layer v2 identity (trial 10), of basic units, 0.27M parameters and 2.6M MACs, with lr "
    )
    assert told.more == ("About 13 seeds of each would tell it from 20-layer v2 identity (trial 5).",)


def cheap(*macs: int, **changes: Any) -> Finals:
    """Three finalists in a tie of falling error, of these costs, with the champion that the race gives."""
    tie = finals((5.2, 5.4, 5.1), (5.1, 5.3, 5.0), (4.9, 5.2, 5.0), (9.0, 9.1, 9.2), champion_number=None)
    costs = zip(tie.finalists, (*macs, 1_000), strict=True)
    return with_champion(replace(tie, finalists=tuple(replace(one, macs=cost) for one, cost in costs), **changes))


@pytest.mark.parametrize(
    ("macs", "best", "told"),
    [
        ((1_000_000, 2_000_000, 2_100_000), 0, "5.23 ± 0.15 % test error; 2 others, at up to 2.1 times the MACs, are"),
        ((2_000_000, 1_000_000, 2_000_000), 1, "5.13 ± 0.15 % test error; 2 others, at up to 2.0 times the MACs, are"),
        ((1_010_000, 1_014_000, 1_006_000), 2, "5.03 ± 0.15 % test error; 2 others, at the same MACs, are"),
    ],
)
def test_the_cheapest_of_a_tie_is_the_champion(macs: tuple[int, int, int], best: int, told: str) -> None:
    """The fourth is the cheapest of all, and worse; costs that read the same are the same."""
    found = cheap(*macs)
    assert found.champion_number == best
    assert told in answer(found)
    assert f"of {20 + 2}-layer v2 identity (trial 2), at no lower cost" in more(found) or best == 2
    assert standings(found)[0].rank == 3 - best


def test_the_cost_is_that_which_the_study_names() -> None:
    slow = [1.0, 9.0, 2.0, 1.0]
    found = cheap(1, 2, 3, cost=Objective.SECONDS)
    timed = [
        replace(one, runs=tuple(replace(run, seconds=10 - seconds) for run in one.runs))
        for one, seconds in zip(found.finalists, slow, strict=True)
    ]
    assert with_champion(replace(found, finalists=tuple(timed))).champion_number == 1


def test_nothing_better_than_guessing_is_recommended(tmp_path: Path) -> None:
    """Of 360 images of two equal classes: 50 %, with a standard error of 2.64 points; 45 % is within two of them."""
    guess = {"guess": 50.0, "tested_on": 360, "champion_number": None}
    guessing = with_champion(finals((45.0, 45.1, 45.2), (50.0, 50.1, 50.2), **guess))
    assert guessing.champion is None
    assert answer(guessing) == (
        "Nothing is recommended: the lowest test error of the finalists, 45.10 ± 0.10 %, is no better than always"
        " naming the largest class (50.0 %)."
    )
    assert checked(tmp_path, finals=guessing)["finals"]["missing"].endswith("better than guessing the largest class.")
    better = with_champion(finals((44.0, 44.1, 44.2), (50.0, 50.1, 50.2), **guess))
    assert better.champion_number == 0
    data = sample_study.summary().data | {"guess_validation": 50.0}
    low = [replace(trial, curve={12: 49.0}, epochs=12) for trial in sample_study.trials()[:3]]
    told = Analysis.of(sample_study.summary(data=data), low).answer.sentence
    assert told.startswith("Nothing is recommended: the lowest validation error, 49.0 %, is no better than always")


def test_guessing_has_a_balanced_error_too(tmp_path: Path) -> None:
    """Of 400 images of two classes, 9 to 1, who names the larger is wrong in 10 %, or in 0 and 100 % of the classes.

    48 % is within two standard errors of 50 % on 4 / (1 / 360 + 1 / 40) = 144 images of equal classes: 4.2 points.
    """
    data = sample_study.summary().data | {"counts_validation": [270, 17, *[0] * 8]}
    sought: dict[str, Any] = {"objectives": (Objective.VAL_BALANCED_ERROR,), "data": data}
    counted = {"measure": "balanced_error", "guess": 50.0, "effective": 144.0, "tested_on": 400}
    guessing = with_champion(finals((48.0, 48.1, 48.2), (50.0, 50.1, 50.2), **counted, champion_number=None))
    content = checked(tmp_path, finals=guessing, **sought)
    assert content["answer"] == (
        "Nothing is recommended: the lowest test balanced error of the finalists, 48.10 ± 0.10 %, is no better than "
        "always naming the largest class (50.0 %)."
    )
    better = with_champion(finals((9.0, 9.1, 9.2), (50.0, 50.1, 50.2), **counted, champion_number=None))
    content = checked(tmp_path, finals=better, **sought)
    assert "9.10 ± 0.10 % test balanced error" in content["answer"]
    assert content["finals"]["verdict"]["test_set_error"] == pytest.approx(100 * (0.091 * 0.909 / 144) ** 0.5)
    told = Analysis.of(sample_study.summary(**sought), sample_study.trials())
    assert "validation balanced error (the mean of 2 classes, 287 images)" in told.answer.sentence
    assert told.answer.caveats[0].startswith("This is validation balanced error, not test balanced error:")


def test_no_interval_of_an_error_leaves_0_to_100_percent(tmp_path: Path) -> None:
    """Errors of 10, 60 and 95 %: 55 -+ 4.303 x 42.7 / sqrt(3) is -51 to 161."""
    wide = finals((10.0, 60.0, 95.0), (60.0, 100.0), tested_on=360)
    assert "95 % interval 0.00 to 100.00." in report.short_answer(sample.summary(finals=wide), sample_study.trials())
    found = checked(tmp_path, finals=wide)["finals"]["finalists"]
    assert [(one["interval"]["low"], one["interval"]["high"]) for one in found] == [(0, 100), (0, 100)]
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "0.00 to 100.00" in text
        assert "161." not in text
        assert "-51." not in text
    metrics = shown.tested((10.0, 60.0, 95.0), 360, "error")
    assert (metrics["test/error_low"], metrics["test/error_high"]) == (0, 100)
    exported = Facts("", "", "", "", 1, 1, tested={0: 10.0, 1: 60.0, 2: 95.0}).interval(360)
    assert exported is not None
    assert (exported.low, exported.high) == (0, 100)


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        (
            ((5.0, 5.1, 4.9), (8.0, 8.1, 7.9)),  # 0.1 / sqrt(3) times 4.3027
            "Use a 20-layer .*: 5.00 ± 0.10 % test error; separated from the next, 21-layer v2 identity with"
            " 8.00 ± 0.10 %\\.",
        ),
        (((5.0, 5.1, 4.9), (4.0, 4.1, None)), "Use a 20-layer .*; the only finalist that lost no training\\."),
        (
            ((5.0, 5.1, 5.2), (5.1, 5.0, 5.2)),
            ".* 5.10 ± 0.10 % test error; 21-layer v2 identity is not distinguishable\\.",
        ),
    ],
)
def test_how_a_champion_stands(errors: tuple[tuple[float | None, ...], ...], told: str) -> None:
    assert re.fullmatch(told, answer(finals(*errors)))


def test_who_lost_a_training_is_not_the_champion() -> None:
    order = standings(finals((5.0, 5.1, 4.9), (4.0, 4.1, None)))
    assert [(s.finalist.number, len(s.lost)) for s in order] == [(0, 0), (1, 1)]


def test_finals_that_are_not_there_yet_leave_the_answer_of_the_search(tmp_path: Path) -> None:
    some = sample.finals()
    begun = replace(some.finalists[0], runs=some.finalists[0].runs[:2])
    never = [replace(finalist, runs=()) for finalist in some.finalists[1:]]
    part = replace(some, finalists=(begun, *never), complete=False, champion_number=10)
    for found, said in (
        (None, "The finals have not begun: no test error is known yet."),
        (part, "The finals are not complete: 2 of at least 9 trainings are tested."),
    ):
        told = report.short_answer(sample.summary(finals=found), sample_study.trials())
        assert "1.0 % validation error" in told.splitlines()[0]
        assert said in told
        content = checked(tmp_path, finals=found)
        assert (content["finals"] or {"missing": said})["missing"] == said
    without = report.short_answer(sample.summary(finals=None, finals_asked=False), sample_study.trials())
    assert "finals" not in without


def test_no_champion_is_said_with_its_cause() -> None:
    lost = sample.summary(finals=finals((5.0, None), (6.0, None)))
    told = report.short_answer(lost, sample_study.trials())
    assert "The finals name no champion: every finalist lost a training (2 diverged)." in told
    assert "validation error" in told.splitlines()[0]


def test_standings_are_scipys(tmp_path: Path) -> None:
    content = checked(tmp_path)["finals"]
    first, second, third = content["finalists"]
    assert [f["number"] for f in content["finalists"]] == [10, 5, 3]
    assert first["mean"] == pytest.approx(100 * 5.2 / 360)
    assert first["std"] == pytest.approx(stats.tstd(BEST))
    ends = stats.t.interval(0.95, 4, loc=fmean(BEST), scale=stats.sem(BEST))
    assert (first["interval"]["low"], first["interval"]["high"]) == pytest.approx(ends)
    assert (first["median"], first["min"], first["max"]) == pytest.approx([100 * w / 360 for w in (5, 4, 6)])
    assert first["median_interval"]["level"] == pytest.approx(1 - 2 * 0.5**5)  # the whole range of five
    welch = stats.ttest_ind(SECOND, BEST, equal_var=False)
    assert second["difference"]["p_value"] == pytest.approx(welch.pvalue)
    assert second["probability_lower"] == pytest.approx(welch.pvalue / 2)
    low, high = welch.confidence_interval(0.95)
    assert (second["difference"]["low"], second["difference"]["high"]) == pytest.approx((low, high))
    assert first["difference"] is None
    assert third["tested"] == 3
    assert content["verdict"] == {
        "next": 5, "separated": False, "close": [5], "seeds_needed": 13,
        "probability": pytest.approx(1 - welch.pvalue / 2),
        "test_set_error": pytest.approx(100 * (5.2 / 360 * (1 - 5.2 / 360) / 360) ** 0.5),
    }  # fmt: skip
    assert [run["seed"] for run in first["runs"]] == [0, 1, 2, 3, 4]
    assert [run["test_error"] for run in second["runs"]] == pytest.approx(SECOND)


@pytest.mark.parametrize(("k", "expected"), [(2, 0.56419), (3, 0.84628), (5, 1.16296), (10, 1.53875)])
def test_the_largest_of_normal_values(k: int, expected: float) -> None:
    assert largest_of(k) == pytest.approx(expected, abs=5e-6)  # order statistics: Teichroew 1956, table I


def test_the_best_of_alike_finalists_is_flattered_by_so_much() -> None:
    found = finals((5.0, 5.2), (5.1, 5.3), (5.2, 5.4))  # deviation 0.1414 each, of a mean 0.1
    assert flattery(standings(found)) == pytest.approx(0.084628, abs=1e-6)
    assert flattery(standings(finals((5.0, 5.2)))) is None


def test_caveats_of_a_champion() -> None:
    found = Analysis.of(sample.summary(stopped="time budget spent"), sample_study.trials()).answer.caveats
    lines = " ".join(found)
    assert len(found) == 5
    assert "best of 3 finalists is picked on the test images that score it" in lines
    assert "Seeds differ by 0.23 points (standard deviation)" in lines
    assert "another 360 test images would move the error by about 0.63 points" in lines
    assert "Its validation error in the search was 1.0 %, 0.4 points less." in lines
    assert "with 95 % confidence, over all pairs and seeds together" in lines
    compared = " ".join(Analysis.of(sample.comparing(), []).answer.caveats)
    assert "another scale (small) than published: net.depth 20 in place of 110, train.epochs 30 in" in compared
    assert "in the search" not in compared


def test_a_study_that_compares_has_no_trials(tmp_path: Path) -> None:
    written = report.write(tmp_path, sample.comparing(), [], {})
    content = valid(written)
    assert content["best"] is None
    assert content["trials"] == []
    rows = content["finals"]["finalists"]
    assert rows[0]["label"] == "original: identity"
    (figure,) = rows[0]["published"]
    papers = json.loads((Path(__file__).parents[1] / "support" / "papers.json").read_text())["v2_table1_shortcuts"]
    assert figure["error"] == papers[0]["error_pct"] == 6.61
    assert figure["differences"]["net.depth"] == {"published": 110, "run": 20}
    told = written.markdown.read_text(encoding="utf-8")
    assert told.split("\n\n")[2].startswith("**Use a 20-layer v1 residual network")
    assert "## Trials" not in told
    assert "## The space" not in told


def test_what_a_study_cost() -> None:
    trials = [replace(trial, seconds=36.0) for trial in sample_study.trials()[:10]]
    found = finals((5.0, 5.1), (5.0, 5.1))
    runs = [replace(f, runs=tuple(replace(run, seconds=90.0) for run in f.runs)) for f in found.finalists]
    quarter = sample.summary(finals=replace(found, finalists=tuple(runs)), holds={"cpus": 2.0, "gpus": 0.25})
    cost = Analysis.of(quarter, trials).cost
    assert cost == DeviceHours("GPU-hours", pytest.approx(0.025), pytest.approx(0.025))  # 360 s / 4 each
    assert tables.cost(cost) == "0.05 GPU-hours: 0.025 in the search, 0.025 in the finals"
    cores = Analysis.of(sample.summary(finals=None, holds={"cpus": 2.0, "gpus": 0.0}), trials).cost
    assert cores == DeviceHours("core-hours", pytest.approx(0.2), 0.0)
    assert Analysis.of(sample.summary(holds={}), trials).cost is None


def test_every_kind_of_report_follows_the_schema(tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate({**checked(tmp_path), "schema_version": 99})
    for found in (sample.with_lost(sample.finals()), finals((5.0, None), (None, None)), finals((5.0, 5.0), (5.0, 5.0))):
        checked(tmp_path, finals=found)
    for count in (0, 1, 24):
        checked(tmp_path, finals=None, trials=sample_study.trials()[:count], holds={})

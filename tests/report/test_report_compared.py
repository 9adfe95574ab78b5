"""A study that compares: its orders beside the papers', by hand and by scipy."""

from dataclasses import replace
from typing import Any

import pytest
from scipy import stats

from search import report
from search.records import Finalist, SeedRun, StudySummary, TrialState
from search.report.analysis import Analysis
from search.report.published import Order, published_order, source
from search.spec import Figure, TrialSpec
from tests.report.test_report import tables
from tests.support import sample_finals as sample
from tests.support import sample_study

RECIPE = {"train.epochs": 164, "train.nesterov": False, "train.schedule": "steps", "train.warmup_steps": 400}
TABLE = "1603.05027/table1/"
GATE = {"net.shortcut": "shortcut_only_gate"}


def finalist(
    number: int, label: str, key: str, net: dict[str, Any], errors: tuple[float | None, ...], against: str | None = None
) -> Finalist:
    """One with a training for each error; None: it diverged."""
    states = [TrialState.DIVERGED if error is None else TrialState.COMPLETE for error in errors]
    runs = tuple(SeedRun(10 * number + k, k, states[k], 164, test_error=error) for k, error in enumerate(errors))
    params = TrialSpec.from_flat(RECIPE | {"net.depth": 110} | net).flat()
    return Finalist(number, params, runs, label, (key,) if key else (), against=against)


def summary(*finalists: Finalist, **changes: Any) -> StudySummary:
    found = sample.compared(finalists=finalists, scale={}, scale_name=None, epochs=164, trained_on=50_000)
    return sample.comparing(finals=replace(found, **changes))


IDENTITY = finalist(0, "original", TABLE + "identity", {}, (6.5, 6.7, 6.6, 6.4, 6.8))
DROPOUT = finalist(1, "dropout", TABLE + "dropout", {"net.shortcut": "dropout"}, (31.0, 35.0, 33.0, 30.0, None))
WEAK = finalist(2, "gate -6", TABLE + "shortcut_only_gate_-6", GATE, (6.6, 6.5, 6.8, 6.7, 6.5))
GATE_0 = finalist(3, "gate 0", TABLE + "shortcut_only_gate_0", GATE | {"net.gate_bias": 0}, (6.1, 6.0, 6.2, 6.1, 6.0))
FULL = summary(IDENTITY, DROPOUT, WEAK, GATE_0)


def rows(found: StudySummary) -> dict[str, dict[str, str]]:
    """Name of a configuration -> its row of the table: heading -> cell."""
    (table,) = tables(report.short_answer(found, []))
    return {row["finalist"]: row for row in table}


def test_orders() -> None:
    found = Analysis.of(FULL, []).comparisons
    assert {number: one.order for number, one in found.items()} == {1: Order.SAME, 2: Order.NOT_TOLD, 3: Order.OTHER}
    between = stats.ttest_ind(WEAK.tested, IDENTITY.tested, equal_var=False).confidence_interval(0.95)
    ours = found[2].found
    assert ours is not None
    assert (ours.low, ours.high) == pytest.approx((between.low, between.high))
    assert (found[2].published, found[3].published) == pytest.approx((6.91 - 6.61, 12.86 - 6.61))
    diverged = found[1].found
    assert diverged is not None
    assert diverged.mean == pytest.approx((31 + 35 + 33 + 30 + 100) / 5 - 6.6)  # which counts as 100 %
    told = "Of 3 published orders: 1 found here too, 1 the other way round, 1 not told apart."
    assert told in report.short_answer(FULL, [])


@pytest.mark.parametrize(
    ("of", "other", "expected"),
    [
        ("1603.05027/table2/v2_164", "1603.05027/table2/v1_164", -0.47),
        (TABLE + "dropout", TABLE + "identity", 1),  # a failure is above 20 %
        (TABLE + "identity", TABLE + "dropout", -1),
        (TABLE + "dropout", TABLE + "scaling_0_1", None),
        (TABLE + "identity", "1603.05027/table3/cifar10_v1_110", None),  # both 6.61
        ("1512.03385/figure6/plain110", "1512.03385/table6/resnet110", 1),  # above 60 %
        ("1512.03385/figure6/plain56", "1512.03385/table6/resnet20", None),  # a curve
        ("", TABLE + "identity", None),
    ],
)
def test_what_is_printed_of_an_order(of: str, other: str, expected: float | None) -> None:
    one, two = finalist(0, "one", of, {}, ()), finalist(1, "two", other, {}, ())
    found = published_order(one, two)
    assert found == (None if expected is None else pytest.approx(expected))


def welch() -> str:
    """How the table shows scipy's difference of the errors of the last row from those of the first."""
    between = stats.ttest_ind(GATE_0.tested, IDENTITY.tested, equal_var=False).confidence_interval(0.95)
    return f"-0.52 ({between.low:+.2f} to {between.high:+.2f})"


def test_the_table() -> None:
    found = rows(FULL)
    gate = found["gate 0"]
    assert list(found) == ["original", "gate 0", "gate -6", "dropout"]
    assert [gate[name] for name in ("published", "against original", "paper")] == [
        "12.86 %", welch(), "other order",
    ]  # fmt: skip
    assert (found["original"]["against original"], found["original"]["paper"]) == ("reference", "")
    assert found["dropout"]["published"] == "fail"
    assert found["dropout"]["seeds"] == "4 (+1 lost)"
    assert found["gate -6"]["against original"].startswith("+0.02 (")
    assert found["gate -6"]["paper"] == "not told apart"
    odd = replace(WEAK, label="<b>gate & |")
    assert "&lt;b>gate & \\|" in rows(summary(IDENTITY, odd))


def test_the_source_of_a_figure_says_what_was_done_in_another_way() -> None:
    found = Figure.of("1512.03385/table6/resnet110").beside(IDENTITY.params | {"net.depth": 20}, "cifar10", 50_000)
    assert source(found) == (
        "6.43 % (best of 5 runs; mean 6.61 ± 0.16; arXiv:1512.03385 (He, Zhang, Ren, Sun; CVPR 2016), Table 6)"
        "; here with net.depth 20 in place of 110"
    )


def test_a_smaller_scale_says_so_and_orders_are_still_compared() -> None:
    small = [replace(one, params=one.params | {"net.depth": 20}) for one in (IDENTITY, DROPOUT, WEAK, GATE_0)]
    found = summary(*small, scale={"net.depth": (110, 20)}, scale_name="cpu")
    assert Analysis.of(found, []).comparisons == Analysis.of(FULL, []).comparisons
    lines = Analysis.of(found, []).answer.caveats
    assert "At another scale (cpu) than published: net.depth 20 in place of 110." in lines


def test_a_row_may_name_the_one_beside_which_it_stands() -> None:
    found = rows(summary(IDENTITY, DROPOUT, replace(WEAK, against="dropout")))
    assert found["gate -6"]["against original"].endswith(", against dropout")
    assert found["gate -6"]["paper"] == "same order"


def test_what_nobody_has_published_is_compared_here_alone() -> None:
    own = {"net.depth": 104}  # of which no paper has a figure
    plain = [replace(one, published=(), params=one.params | own) for one in (IDENTITY, GATE_0)]
    assert "ublished" not in report.short_answer(summary(*plain), [])
    assert rows(summary(*plain))["gate 0"]["against original"] == welch()


def test_too_few_trainings_show_nothing() -> None:
    assert Analysis.of(sample_study.summary(), []).comparisons == {}
    begun, one = (summary(*(replace(f, runs=f.runs[:k]) for f in (IDENTITY, GATE_0))) for k in (0, 1))
    assert (rows(begun)["original"]["test error"], rows(begun)["original"]["published"]) == ("n/a", "6.61 %")
    gate = rows(one)["gate 0"]
    assert (gate["against original"], gate["paper"]) == ("too few trainings", "not told apart")

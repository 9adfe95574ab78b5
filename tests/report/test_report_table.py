"""The table of a study that compares: figures and orders beside the papers', by hand and by scipy."""

from dataclasses import replace
from html.parser import HTMLParser
from math import sqrt
from typing import Any

import pytest
from scipy import stats

from search.records import Finalist, Finals, SeedRun, StudySummary, TrialState
from search.report import published
from search.report.published import Agrees, figure_agreement, prediction, published_order
from search.spec import Figure, TrialSpec
from tests.support import sample_study as sample

DATA = {
    "name": "cifar10",
    "classes": list("abcdefghij"),
    "train": 45_000,
    "validation": 5_000,
    "test": 10_000,
    "shape": (32, 32, 3),
    "digest": "4b1c93e0d7aa",
}
RECIPE: dict[str, Any] = {
    "train.epochs": 164,
    "train.nesterov": False,
    "train.schedule": "steps",
    "train.warmup_steps": 400,
}
TABLE = "1603.05027/table1/"
GATE = {"net.shortcut": "shortcut_only_gate"}


def finalist(
    number: int,
    label: str,
    key: str,
    net: dict[str, Any],
    errors: tuple[float | None, ...],
    against: str | None = None,
    trained: tuple[float, ...] = (),
) -> Finalist:
    """One with a training for each error; None: it diverged."""
    runs = tuple(
        SeedRun(
            10 * number + seed,
            seed,
            TrialState.DIVERGED if error is None else TrialState.COMPLETE,
            164,
            {1: 60.0, 2: trained[seed] if trained else 1.0},
            error,
        )
        for seed, error in enumerate(errors)
    )
    params = TrialSpec.from_flat(RECIPE | {"net.depth": 110} | net).flat()
    return Finalist(number, params, runs, label, (key,) if key else (), against=against)


def summary(*finalists: Finalist, **changes: Any) -> StudySummary:
    found = Finals(
        finalists=finalists,
        epochs=164,
        seeds=5,
        most_seeds=5,
        level=0.95,
        trained_on=50_000,
        tested_on=10_000,
        complete=True,
        compared=True,
    )
    return sample.summary(data=DATA, finals=replace(found, **changes))


IDENTITY = finalist(0, "original", TABLE + "identity", {}, (6.5, 6.7, 6.6, 6.4, 6.8))
DROPOUT = finalist(1, "dropout", TABLE + "dropout", {"net.shortcut": "dropout"}, (31.0, 35.0, 33.0, 30.0, None))
WEAK = finalist(2, "gate -6", TABLE + "shortcut_only_gate_-6", GATE, (6.6, 6.5, 6.8, 6.7, 6.5))
GATE_0 = finalist(3, "gate 0", TABLE + "shortcut_only_gate_0", GATE | {"net.gate_bias": 0}, (6.1, 6.0, 6.2, 6.1, 6.0))
FULL = summary(IDENTITY, DROPOUT, WEAK, GATE_0)


def small(one: Finalist) -> Finalist:
    return replace(one, params=one.params | {"net.depth": 20, "train.epochs": 10})


def test_figures_of_trainings_by_the_recipe() -> None:
    original, dropout, weak, gate = published.rows(FULL)
    assert (original.median, original.mean, original.std) == pytest.approx((6.6, 6.6, sqrt(0.025)))
    assert original.interval is not None
    student = stats.t.interval(0.95, 4, 6.6, sqrt(0.025 / 5))
    assert (original.interval.low, original.interval.high) == pytest.approx(student)
    assert original.figure_agrees is Agrees.YES, "6.61 is about our mean"
    assert dropout.figure_agrees is Agrees.YES, "both fail"
    assert (dropout.median, dropout.diverged, len(dropout.errors)) == (33.0, 1, 5)
    assert weak.figure_agrees is Agrees.YES, "6.91 within 6.62 -+ 2.776 x 0.130 x 1.095 = 0.40"
    assert gate.figure_agrees is Agrees.NO, "12.86 is far from 6.1"


def test_a_further_training_lies_in_its_interval_as_often_as_it_says() -> None:
    draw, inside = stats.norm(6.6, 0.16), 0
    samples = draw.rvs((4000, 6), random_state=0)
    for *errors, further in samples:
        found = prediction(list(map(float, errors)), 0.95, 0.01)
        assert found is not None
        inside += found.low <= further <= found.high
    assert inside / 4000 == pytest.approx(0.95, abs=3 * sqrt(0.95 * 0.05 / 4000))
    assert prediction([6.6], 0.95, 0.01) is None


def test_orders() -> None:
    _, dropout, weak, gate = published.rows(FULL)
    assert [row.order.published if row.order else None for row in (dropout, weak, gate)] == ["worse"] * 3
    assert [row.order.ours if row.order else None for row in (dropout, weak, gate)] == ["worse", None, "better"]
    assert [row.order.agrees if row.order else None for row in (dropout, weak, gate)] == [
        Agrees.YES,
        Agrees.NOT_SHOWN,
        Agrees.NO,
    ]
    assert weak.order is not None
    assert weak.order.found is not None
    welch = stats.ttest_ind(WEAK.tested, IDENTITY.tested, equal_var=False)
    between = welch.confidence_interval(0.95)
    assert (weak.order.found.low, weak.order.found.high) == pytest.approx((between.low, between.high))
    assert weak.order.by == pytest.approx(6.91 - 6.61)


@pytest.mark.parametrize(
    ("of", "other", "expected"),
    [
        ("1603.05027/table2/v2_164", "1603.05027/table2/v1_164", ("better", 0.47, "test error")),
        (TABLE + "dropout", TABLE + "identity", ("worse", None, "test error")),
        (TABLE + "identity", TABLE + "dropout", ("better", None, "test error")),
        (TABLE + "dropout", TABLE + "scaling_0_1", (None, None, "test error")),
        (TABLE + "identity", "1603.05027/table3/cifar10_v1_110", (None, 0, "test error")),
        ("1512.03385/figure6/plain110", "1512.03385/table6/resnet110", ("worse", None, "test error")),
        ("1512.03385/figure6/plain56", "1512.03385/figure6/plain20", ("worse", None, "training error")),
        ("1512.03385/figure6/plain20", "1512.03385/figure6/plain56", ("better", None, "training error")),
        ("1512.03385/figure6/plain56", "1512.03385/table6/resnet20", (None, None, "test error")),
    ],
)
def test_what_is_printed_of_an_order(of: str, other: str, expected: tuple[Any, ...]) -> None:
    assert published_order(Figure.of(of), Figure.of(other)) == expected


def test_figures_that_are_no_numbers() -> None:
    bound, curve = Figure.of("1512.03385/figure6/plain110"), Figure.of("1512.03385/figure6/plain20")
    assert figure_agreement(bound, (61.0, 70.0, 59.0), 0.95, 0.01) is Agrees.YES
    assert figure_agreement(bound, (59.0, 70.0, 58.0), 0.95, 0.01) is Agrees.NO
    assert figure_agreement(bound, (), 0.95, 0.01) is Agrees.NOT_SHOWN
    assert figure_agreement(curve, (9.0, 9.1), 0.95, 0.01) is None
    best = Figure.of("1512.03385/table6/resnet110")  # 6.43 is the best of 5, whose mean is 6.61
    assert figure_agreement(best, (6.60, 6.61, 6.62), 0.95, 0.01) is Agrees.YES


def test_training_errors_where_the_paper_speaks_of_them() -> None:
    plain = {"net.shortcut": "none"}
    shallow = finalist(0, "plain-20", "1512.03385/figure6/plain20", plain, (9.0, 9.2, 9.1), trained=(4.0, 4.1, 4.2))
    deep = finalist(1, "plain-56", "1512.03385/figure6/plain56", plain, (9.1, 9.0, 9.2), trained=(8.0, 8.2, 8.1))
    order = published.rows(summary(shallow, deep))[1].order
    assert order is not None
    assert (order.measure, order.ours, order.agrees) == ("training error", "worse", Agrees.YES)
    assert "+4.00 points" in published.markdown(summary(shallow, deep))


def test_sentence_at_full_scale() -> None:
    assert published.comparison_sentence(FULL) == (
        "Of 3 published orders beside original: 1 reproduced (dropout), 1 not shown (gate -6), 1 contradicted (gate 0)"
        "; of 4 published figures: 3 like ours (original; dropout; gate -6), 1 unlike ours (gate 0) "
        "(n = 5 trainings of each row, 95 % intervals)."
    )


def test_a_smaller_scale_compares_orders_alone() -> None:
    found = summary(
        *map(small, (IDENTITY, DROPOUT, WEAK, GATE_0)),
        scale={"net.depth": (110, 20), "train.epochs": (164, 10)},
        scale_name="cpu",
    )
    assert all(row.figure_agrees is None for row in published.rows(found))
    text, told = published.markdown(found), published.comparison_sentence(found)
    assert told is not None
    assert told.endswith("(n = 5 trainings of each row, 95 % intervals, at scale cpu).")
    assert "figures" not in told
    assert "Scale cpu: net.depth 20 in place of 110, train.epochs 10 in place of 164." in text
    assert "figures are not compared" in text
    assert "figure agrees?" not in text
    assert "(here" not in text, "all rows differ alike"


def test_a_row_says_in_which_way_it_is_another_network() -> None:
    deep = replace(DROPOUT, params=DROPOUT.params | {"net.depth": 56, "train.epochs": 10})
    text = published.markdown(summary(small(IDENTITY), deep))
    assert "| original (here depth 20) |" in text
    assert "| dropout (here depth 56) |" in text


def test_a_row_may_name_the_one_beside_which_it_stands() -> None:
    found = summary(IDENTITY, DROPOUT, replace(WEAK, against="dropout"))
    assert "better than dropout (" in published.markdown(found)


def test_markdown() -> None:
    lines = published.markdown(FULL).splitlines()
    head = "| row | published | median | mean | n | 95 % interval | figure agrees? | beside | order agrees? |"
    assert lines[0] == head
    first = (
        "| original | 6.61 % (median of 5 runs) | 6.60 % | 6.60 ± 0.16 % | 5 | 6.40 to 6.80 % | yes | reference |  |"
    )
    assert lines[2] == first
    assert lines[3].startswith("| dropout | fail (median of 5 runs) | 33.00 % |")
    assert "| 5 (1 diverged) |" in lines[3]
    assert lines[3].endswith("; published: worse | yes |")
    assert "A training that diverged counts as 100 %." in lines[-1]
    assert "not told from original (+0.02 points" in lines[4]


def test_rows_that_nobody_has_published() -> None:
    found = summary(replace(IDENTITY, published=()), replace(GATE_0, published=()))
    assert published.comparison_sentence(found) is None
    text = published.markdown(found)
    assert "published" not in text
    assert "better than original (-0.52 points" in text


def test_one_training_shows_nothing() -> None:
    found = summary(*(replace(one, runs=one.runs[:1]) for one in (IDENTITY, GATE_0)))
    text = published.markdown(found)
    assert "| original | 6.61 % (median of 5 runs) | 6.50 % | 6.50 % | 1 | n/a | not shown | reference |" in text
    assert "original: too few trainings; published: worse by 6.25 | not shown |" in text


def test_nothing_yet() -> None:
    nothing = sample.summary(finals=None)
    assert published.rows(nothing) == ()
    assert (published.comparison_sentence(nothing), published.markdown(nothing), published.html(nothing)) == (
        None,
        "",
        "",
    )
    begun = summary(replace(IDENTITY, runs=()))
    assert "| original | 6.61 % (median of 5 runs) | n/a | n/a | 0 | n/a |" in published.markdown(begun)


def test_html_holds_the_same_cells_escaped() -> None:
    class Cells(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[str] = []
            self.inside = False

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag in ("p", "table", "thead", "tbody", "tr", "th", "td")
            self.inside = tag in ("th", "td")
            if self.inside:
                self.found.append("")

        def handle_data(self, data: str) -> None:
            if self.inside:
                self.found[-1] += data

        def handle_endtag(self, tag: str) -> None:
            self.inside = False

    odd = replace(WEAK, label="<b>gate & |")
    reader = Cells()
    reader.feed(published.html(summary(IDENTITY, odd)))
    head, body = published.cells(summary(IDENTITY, odd))
    assert reader.found == [*head, *body[0], *body[1]]
    assert "&lt;b>gate & \\|" in published.markdown(summary(IDENTITY, odd))

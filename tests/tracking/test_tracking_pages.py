"""MLflow's pages on a study, started with the command that we print, in a real browser."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from search.records import TrialState
from search.storage import Output
from search.tracking import Pages, Store
from tests.support.mirrored import Study
from tests.support.mlflow_pages import LOAD_MS, enter, pages

CLASSIC = "workflowType=machine_learning"  # MLflow's pages open on language models otherwise
TRIALS = {"000 depth 8 v1 identity": 7.25, "001 depth 14 v2 identity": 5.5, "002 depth 20 v2 identity": 4.75}

pytest_plugins = ["tests.support.fixtures_pages"]
pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, page: Page) -> Iterator[tuple[str, Study]]:
    """The address of MLflow's pages on a finished study, and that."""
    output = tmp_path_factory.mktemp("a study's results")
    study = Study(output / "digits", Store.chosen(None, "resnet-search", Output(str(output))))
    for name, best in TRIALS.items():
        _, _, depth, version, _ = name.split()
        number = study.start(int(depth), version)
        for epoch in (1, 2):
            study.report(number, epoch, **{"val/error": best * 2 / epoch})
        study.search.finish(number, TrialState.COMPLETE)
    study.conclude("Use **resnet20 v2 identity**")
    study.sent()
    with pages(study.store, output / "ui.log") as base:
        enter(page, base)
        yield base, study


def addresses(base: str, study: Study) -> Pages:
    return Pages(base, study.cursor.experiment, study.run)


def test_the_table_of_trials_with_the_best_first(study: tuple[str, Study], page: Page) -> None:
    base, made = study
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(addresses(base, made).table)
    expect(page.get_by_text("matching runs")).to_contain_text("3", timeout=LOAD_MS)
    links = page.get_by_role("link", name="depth")
    expect(links).to_have_count(3, timeout=LOAD_MS)
    tops = {link.inner_text(): box["y"] for link in links.all() if (box := link.bounding_box())}
    assert sorted(tops, key=lambda name: tops[name]) == [
        "002 depth 20 v2 identity",
        "001 depth 14 v2 identity",
        "000 depth 8 v1 identity",
    ]
    assert [url for url in asked if not url.startswith((base, "data:", "blob:"))] == []  # nobody else is told


def test_the_charts_of_a_study(study: tuple[str, Study], page: Page) -> None:
    base, made = study
    page.goto(addresses(base, made).charts)
    plots = page.locator(".js-plotly-plot, svg")
    for axis in ("net.depth", "net.version", "net.shortcut", "val/error"):
        expect(plots.filter(has_text=axis).first).to_be_visible(timeout=LOAD_MS)
    expect(page.get_by_text("comparison").first).to_be_visible(timeout=LOAD_MS)


def test_the_comparison(study: tuple[str, Study], page: Page) -> None:
    base, made = study
    page.goto(addresses(base, made).comparison(list(made.cursor.trials.values())))
    page.get_by_text("Comparing 3 Runs from 1 Experiment").wait_for()
    plot = page.locator(".js-plotly-plot").first
    for axis in ("net.depth", "net.version", "val/error", "v1", "v2"):
        expect(plot).to_contain_text(axis, timeout=LOAD_MS)
    for name in TRIALS:
        expect(page.get_by_text(name).first).to_be_attached(timeout=LOAD_MS)


def test_the_charts_of_a_run(study: tuple[str, Study], page: Page) -> None:
    base, made = study
    page.goto(f"{base}/#/experiments/{made.cursor.experiment}/runs/{made.cursor.trials[2]}/model-metrics?{CLASSIC}")
    expect(page.locator("svg text", has_text="4.75")).to_be_visible(timeout=LOAD_MS)  # the bar of best/val_error
    section = page.get_by_role("figure").filter(has_text=re.compile(r"^val\s*\(1\)"))
    section.scroll_into_view_if_needed(timeout=LOAD_MS)  # MLflow draws what is in sight
    expect(page.get_by_text("002 depth 20 v2 identity (val/error)")).to_be_visible(timeout=LOAD_MS)  # a curve


def test_the_answer_in_the_study(study: tuple[str, Study], page: Page) -> None:
    base, made = study
    page.goto(f"{base}/#/experiments/{made.cursor.experiment}/runs/{made.run}")
    expect(page.locator("strong", has_text="resnet20 v2 identity")).to_be_attached(timeout=LOAD_MS)

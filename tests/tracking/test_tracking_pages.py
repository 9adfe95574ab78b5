"""MLflow's pages on a study, started with the command that we print, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from search.records import TrialState
from search.storage import Output
from search.tracking import Pages, Store, Tracker, events
from search.tracking.outbox import Outbox
from tests.support.mlflow_pages import LOAD_MS, enter, pages

CLASSIC = "workflowType=machine_learning"  # MLflow's pages open on language models otherwise
TRIALS = {"resnet8 v1 identity": 7.25, "resnet14 v2 conv1x1": 5.5, "resnet20 v2 identity": 4.75}

pytest_plugins = ["tests.support.fixtures_pages"]
pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, page: Page) -> Iterator[tuple[str, Tracker]]:
    """The address of MLflow's pages on a finished study, and its tracker."""
    output = tmp_path_factory.mktemp("a study's results")
    store = Store.chosen(None, "resnet-search", Output(str(output)))
    tracker = Tracker(Outbox(output / "digits" / "outbox.jsonl"), store, "digits-ab12")
    searched = {"space.net.depth": "[8, 14, 20]", "space.net.version": "['v1', 'v2']"}
    tracker.record(events.StudyStarted(name="digits", params={"search.trials": "3", **searched}))
    for number, (name, error) in enumerate(TRIALS.items()):
        depth, version, shortcut = name.removeprefix("resnet").split()
        params = {"net.depth": depth, "net.version": version, "net.shortcut": shortcut}
        tracker.record(
            events.TrialStarted(
                number=number, name=f"trial-{number:03} {name}", params=params, tags={"search.study": "digits"}
            )
        )
        for epoch in (1, 2):
            tracker.record(events.EpochEnded(number=number, epoch=epoch, metrics={"val/error": error * 2 / epoch}))
        tracker.record(events.TrialEnded(number=number, state=TrialState.COMPLETE, metrics={"best/val_error": error}))
    tracker.record(events.StudyEnded(note="Use **resnet20 v2 identity**", state="complete"))
    assert tracker.drain(120) == 0
    tracker.close()

    with pages(store, output / "ui.log") as base:
        enter(page, base)
        yield base, tracker


def addresses(base: str, tracker: Tracker) -> Pages:
    return Pages(base, str(tracker.experiment_id), str(tracker.study_run_id()))


def test_the_table_of_trials_with_the_best_first(study: tuple[str, Tracker], page: Page) -> None:
    base, tracker = study
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(addresses(base, tracker).table)
    expect(page.get_by_text("matching runs")).to_contain_text("3", timeout=LOAD_MS)
    links = page.get_by_role("link", name="trial-")
    expect(links).to_have_count(3, timeout=LOAD_MS)
    tops = {link.inner_text(): box["y"] for link in links.all() if (box := link.bounding_box())}
    assert sorted(tops, key=lambda name: tops[name]) == [
        "trial-002 resnet20 v2 identity",
        "trial-001 resnet14 v2 conv1x1",
        "trial-000 resnet8 v1 identity",
    ]
    assert [url for url in asked if not url.startswith((base, "data:", "blob:"))] == []  # nobody else is told


def test_the_charts_of_a_study(study: tuple[str, Tracker], page: Page) -> None:
    base, tracker = study
    page.goto(addresses(base, tracker).charts)
    plots = page.locator(".js-plotly-plot, svg")
    for axis in ("net.depth", "net.version", "net.shortcut", "val/error"):
        expect(plots.filter(has_text=axis).first).to_be_visible(timeout=LOAD_MS)
    expect(page.get_by_text("comparison").first).to_be_visible(timeout=LOAD_MS)


def test_the_comparison(study: tuple[str, Tracker], page: Page) -> None:
    base, tracker = study
    page.goto(addresses(base, tracker).comparison(list(tracker.run_ids().values())))
    page.get_by_text("Comparing 3 Runs from 1 Experiment").wait_for()
    plot = page.locator(".js-plotly-plot").first
    for axis in ("net.depth", "net.version", "net.shortcut", "val/error", "conv1x1", "identity"):
        expect(plot).to_contain_text(axis, timeout=LOAD_MS)
    for name in TRIALS:
        expect(page.get_by_text(name).first).to_be_attached(timeout=LOAD_MS)


def test_the_charts_of_a_run(study: tuple[str, Tracker], page: Page) -> None:
    base, tracker = study
    page.goto(f"{base}/#/experiments/{tracker.experiment_id}/runs/{tracker.run_ids()[2]}/model-metrics?{CLASSIC}")
    expect(page.get_by_text("trial-002 resnet20 v2 identity (val/error)")).to_be_visible(timeout=LOAD_MS)  # a curve
    expect(page.locator("svg text", has_text="4.75")).to_be_visible(timeout=LOAD_MS)  # the bar of best/val_error


def test_the_answer_in_the_study(study: tuple[str, Tracker], page: Page) -> None:
    base, tracker = study
    page.goto(f"{base}/#/experiments/{tracker.experiment_id}/runs/{tracker.study_run_id()}")
    expect(page.locator("strong", has_text="resnet20 v2 identity")).to_be_attached(timeout=LOAD_MS)

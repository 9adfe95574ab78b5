"""MLflow's pages on a small study searched for this: no run is lost in a chart, charts are grouped by prefix."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from playwright.sync_api import Page, expect

import search
from search.storage import Output
from search.tracking import Cursor, Pages, Store
from tests.support.mlflow_pages import LOAD_MS, cookie, enter, pages
from tests.support.mlflow_server import rest
from tests.support.study_process import ROOT, command, run

pytest_plugins = ["tests.support.fixtures_pages"]
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.long]

CLASSIC = "workflowType=machine_learning"
STUDY = {
    "name": "digits",
    "train": {"epochs": 3, "batch_size": 32, "crop_padding": 1, "flip": False},
    "space": {
        "net.depth": [8, 14],
        "net.version": ["v1", "v2"],
        "net.shortcut": ["identity", "none", "shortcut_only_gate"],
        "net.gate_bias": [-6, 0],  # a number for gates alone
        "train.lr": {"low": 0.02, "high": 0.2, "log": True},
    },
    "start": [
        {"net.shortcut": "shortcut_only_gate", "net.gate_bias": -6},
        {"net.shortcut": "shortcut_only_gate", "net.gate_bias": 0},
        {"net.shortcut": "identity"},
        {"net.shortcut": "none"},
    ],
    "finals": {"top": 2, "seeds": 2, "max_seeds": 2},
    "search": {"trials": 8, "first_rung": 1, "reduction": 2, "sampler": "random"},
}


@dataclass(frozen=True)
class Shown:
    """A study in MLflow's pages."""

    pages: Pages
    folder: Path  # of the study
    trials: list[dict[str, Any]]  # of report.json, that have a run and a result
    champion: int  # number of its trial, by report.json

    @property
    def base(self) -> str:
        return self.pages.base

    @property
    def experiment(self) -> str:
        return self.pages.experiment

    def run(self, number: int, tab: str = "") -> str:
        found = next(t["mlflow_run_id"] for t in self.trials if t["number"] == number)
        return f"{self.base}/#/experiments/{self.experiment}/runs/{found}{tab}?{CLASSIC}"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, page: Page) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("searched")
    ended = run(folder, command(folder, **STUDY))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    output = folder / "results"
    report = json.loads((output / "digits" / "report.json").read_text())
    trials = [t for t in report["trials"] if t["mlflow_run_id"] and t["val_error"] is not None]
    store = Store.chosen(None, "resnet-search", Output(str(output)))
    with pages(store, folder / "ui.log") as base:
        enter(page, base)
        sent = Cursor.at(output / "digits" / Cursor.FILE)
        champion = report["finals"]["champion"]
        yield Shown(Pages(base, sent.experiment, str(sent.study)), output / "digits", trials, champion)


def of_kind(shown: Shown, kind: str) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Ids of runs with their tags and metrics, as MLflow's server tells them."""
    asked = {"experiment_ids": [shown.experiment], "filter": f"tags.`search.kind` = '{kind}'"}
    for one in rest(shown.base, "runs/search", cookie(shown.base), **asked)["runs"]:
        data = {part: {pair["key"]: pair["value"] for pair in one["data"][part]} for part in ("tags", "metrics")}
        yield one["info"]["run_id"], data


def errors_of_finalists(shown: Shown) -> dict[str, list[float]]:
    """Test errors of each finalist."""
    errors: dict[str, list[float]] = {}
    for _, data in of_kind(shown, "seed"):
        errors.setdefault(data["tags"]["search.finalist"], []).append(data["metrics"]["test/error"])
    return errors


def error_of_champion(shown: Shown) -> float:
    """The mean over its seeds, of the test errors that MLflow holds."""
    (errors,) = [own for name, own in errors_of_finalists(shown).items() if name.startswith(f"{shown.champion:03d} ")]
    return fmean(errors)


def test_parallel_coordinates_lose_no_run(shown: Shown, page: Page, picture: Callable[[str], None]) -> None:
    """Of an axis with numbers and n/a MLflow draws the runs with one of both; such a field has a chart of its own."""
    page.goto(shown.pages.charts)
    expect(page.get_by_text("matching runs")).to_contain_text(str(len(shown.trials)), timeout=LOAD_MS)
    plot = page.locator("svg", has_text="net.shortcut").first
    for trial in shown.trials:
        expect(plot).to_contain_text(str(trial["params"]["net.shortcut"]), timeout=LOAD_MS)
    expect(plot).to_contain_text("log10 train.lr")
    expect(plot).not_to_contain_text("net.gate_bias")
    curves = page.locator(".js-plotly-plot").first
    expect(curves).to_be_visible(timeout=LOAD_MS)
    assert curves.evaluate("plot => plot.layout.yaxis.type") == "log"
    picture("mlflow-comparison")
    page.locator(".js-plotly-plot").first.hover()
    page.mouse.wheel(0, 700)  # to the third: a chart is drawn once it is seen
    expect(page.locator(".js-plotly-plot", has_text="net.gate_bias")).to_be_attached(timeout=LOAD_MS)


def test_charts_are_grouped_by_prefix(shown: Shown, page: Page, picture: Callable[[str], None]) -> None:
    page.goto(shown.run(shown.trials[0]["number"], "/model-metrics"))
    for group, charts in {"best": 1, "cost": 4, "report": 1, "train": 2, "val": 3}.items():
        heading = page.get_by_role("figure").filter(has_text=re.compile(rf"{group}\s*\({charts}\)"))
        expect(heading).to_be_visible(timeout=LOAD_MS)
    picture("mlflow-run")


def test_the_table_of_all_trials(shown: Shown, page: Page, picture: Callable[[str], None]) -> None:
    """In the order of the report, with what it is about in sight; and nobody but the server is asked for anything."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(shown.pages.table)
    for column in ("report/val_error", "test/error_mean", "net.depth", "net.shortcut", "net.version"):
        expect(page.get_by_role("columnheader", name=column).first).to_be_in_viewport(ratio=1, timeout=LOAD_MS)
    links = page.get_by_role("link", name="depth")
    expect(links).to_have_count(len(shown.trials), timeout=LOAD_MS)
    tops = {int(link.inner_text()[:3]): box["y"] for link in links.all() if (box := link.bounding_box())}
    told = (shown.folder / "report.md").read_text().partition("## Trials by")[2].partition("##")[0]
    order = [int(number) for number in re.findall(r"^\| \d+ \| (\d+) \|", told, re.M)]
    assert sorted(tops, key=lambda number: tops[number]) == order
    for trial in shown.trials:
        expect(page.get_by_text(f"{round(trial['val_error'], 2):g}", exact=True).first).to_be_attached()
    assert [url for url in asked if not url.startswith((shown.base, "data:", "blob:"))] == []
    picture("mlflow-trials")


@pytest.mark.parametrize("field", ["shortcut", "version"])
def test_the_least_error_of_each_kind(shown: Shown, page: Page, picture: Callable[[str], None], field: str) -> None:
    kinds: dict[str, float] = {}
    for trial in shown.trials:
        kind = trial["params"][f"net.{field}"]
        kinds[kind] = min(trial["best_val_error"], kinds.get(kind, 100.0))
    page.goto(shown.pages.least(field))
    bars = page.locator(".js-plotly-plot").first
    for kind, least in kinds.items():
        expect(page.get_by_text(f"Group: {kind}")).to_be_visible(timeout=LOAD_MS)
        expect(bars).to_contain_text(f"{least:.2f}", timeout=LOAD_MS)
    picture(f"mlflow-{field}")


def test_chosen_runs_side_by_side(shown: Shown, page: Page, picture: Callable[[str], None]) -> None:
    runs = [trial["mlflow_run_id"] for trial in shown.trials]
    page.goto(shown.pages.comparison(runs))
    page.get_by_text(f"Comparing {len(runs)} Runs from 1 Experiment").wait_for()
    plot = page.locator(".js-plotly-plot").first
    expect(plot).to_contain_text("n/a", timeout=LOAD_MS)
    lines = plot.evaluate("plot => plot.data[0].dimensions.map(axis => axis.values.length)")
    assert lines == [len(runs)] * len(lines)
    picture("mlflow-compare")


def test_finalists_over_their_seeds(shown: Shown, page: Page, picture: Callable[[str], None]) -> None:
    """MLflow's own means are those of the test errors that it holds."""
    errors = errors_of_finalists(shown)
    assert [len(values) for values in errors.values()] == [2, 2]
    page.goto(shown.pages.seeds)
    bars = page.locator(".js-plotly-plot").first
    for name, values in errors.items():
        expect(page.get_by_text(f"Group: {name}")).to_be_visible(timeout=LOAD_MS)
        expect(bars).to_contain_text(f"{fmean(values):.2f}", timeout=LOAD_MS)
    picture("mlflow-seeds")
    seed, _ = next(of_kind(shown, "seed"))
    page.goto(f"{shown.base}/#/experiments/{shown.experiment}/runs/{seed}?{CLASSIC}")
    expect(page.get_by_text("train + validation", exact=True)).to_be_visible(timeout=LOAD_MS)


def test_a_study_says_its_answer_and_its_data(shown: Shown, page: Page, picture: Callable[[str], None]) -> None:
    page.goto(f"{shown.base}/#/experiments/{shown.experiment}/runs/{shown.pages.study}?{CLASSIC}")
    expect(page.get_by_text("Mean ± standard deviation of 2 seeds").first).to_be_visible(timeout=LOAD_MS)
    expect(page.get_by_text("training", exact=True).first).to_be_visible(timeout=LOAD_MS)
    expect(page.get_by_role("link", name="depth").first).to_be_visible(timeout=LOAD_MS)
    picture("mlflow-study")
    _, study = next(of_kind(shown, "study"))
    assert study["metrics"]["test/error_mean"] == pytest.approx(error_of_champion(shown), abs=0.005)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if commit:
        assert study["tags"]["mlflow.source.git.commit"].removesuffix("-dirty") == commit.strip()
    assert study["tags"]["search.version"] == search.__version__
    assert study["tags"]["search.command"].startswith("python -m search.run ")
    ended = Counter(trial["state"] for trial in shown.trials)
    assert {state: study["metrics"][f"trials/{state}"] for state in ended} == ended


def test_the_champion_in_the_registry(shown: Shown, page: Page, picture: Callable[[str], None]) -> None:
    """Its page has the alias, and tells the mean of MLflow's own test errors and the type of its images."""
    page.goto(f"{shown.base}/#/models/digits/versions/1?{CLASSIC}")
    expect(page.get_by_text("@ champion")).to_be_visible(timeout=LOAD_MS)
    expect(page.get_by_text(f"{error_of_champion(shown):.4g}", exact=False).first).to_be_visible(timeout=LOAD_MS)
    expect(page.get_by_text("uint8").first).to_be_visible(timeout=LOAD_MS)
    picture("mlflow-champion")


def test_runs_lead_to_the_registered_model(shown: Shown, page: Page) -> None:
    """Those of the study and of its champion's trial."""
    trial = shown.run(shown.champion)
    for address in (trial, trial.replace(trial.rpartition("/")[2].partition("?")[0], shown.pages.study)):
        page.goto(address)
        expect(page.locator("a[href='#/models/digits/versions/1']").first).to_be_visible(timeout=LOAD_MS)


def test_the_filters_of_the_document(shown: Shown) -> None:
    text = (ROOT / "docs" / "mlflow.md").read_text()
    filters = dict(re.findall(r"^\| (.+?) \| ``(.+)`` \|$", text, re.MULTILINE))
    asked = {"experiment_ids": [shown.experiment], "max_results": 1000}
    found = {
        use: rest(shown.base, "runs/search", cookie(shown.base), filter=one, **asked).get("runs", [])
        for use, one in filters.items()
    }
    assert len(found) == 10
    assert len(found["all studies of the experiment"]) == 1
    assert len(found["what was trained on train and validation"]) == 4
    gates = [t for t in shown.trials if t["params"]["net.shortcut"] == "shortcut_only_gate"]
    assert len(found["what has a gate's bias, as an axis"]) == len(gates)

"""report.html in a real browser that cannot reach any network."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from search import report
from search.records import StudySummary, TrialRecord, TrialState
from search.report import files, pages
from search.report.analysis import Analysis
from tests.support import sample_finals as finals
from tests.support import sample_study as sample

pytest_plugins = ["tests.support.fixtures_pages"]

SHARES = {"net.shortcut": 0.6, "train.lr": 0.3, "net.depth": 0.1}
SEGMENTS = """id => [...document.querySelectorAll(`[id="${id}"] .scatterlayer .js-line`)]
    .map(line => (line.getAttribute("d") ?? "").split("M").length - 1).reduce((a, b) => a + b, 0)"""
BEST_AT_EPOCH_8 = """[...document.querySelectorAll("#curves .trace")]
    .find(trace => trace.__data__[0].trace.name === "best: 20-layer v2 identity (trial 10)")
    .querySelectorAll(".point")[7]"""
FIRST_COLUMN = "rows => rows.map(row => Number(row.dataset.trial))"


def drawn(summary: StudySummary, trials: list[TrialRecord]) -> dict[str, Any]:
    """The figures of a page, by the id of their place."""
    of = Analysis.of(summary, trials, SHARES if trials else {})
    return {name: figure for part in pages.sections(of) for name, figure in part.shown.items()}


def test_the_figures_of_a_page() -> None:
    effects = {f"effect-net.{name}" for name in ("depth", "version", "shortcut")}
    search = {"curves", "parallel", "effects", "importance", "cost-macs", *effects}
    assert drawn(sample.summary(), sample.trials()).keys() == search
    assert drawn(finals.summary(), sample.trials()).keys() == search | {"finals-errors", "finals-curves"}
    assert drawn(finals.comparing(), []).keys() == {"finals-errors", "finals-curves"}
    assert drawn(sample.summary(), []) == {}


def test_parallel_lines_never_hide_each_other_behind_a_choice() -> None:
    trials = sample.trials()
    figure = drawn(sample.summary(), trials)["parallel"]
    points = [
        (number, x, y)
        for trace in figure.data
        for number, x, y in zip(trace.customdata or (), trace.x, trace.y, strict=True)
        if number is not None
    ]
    heights = {axis: {number: y for number, x, y in points if x == axis} for axis in range(7)}
    assert [len(heights[axis]) for axis in heights] == [24] * 7
    assert all(0 <= y <= 1 for _, _, y in points)
    for axis in range(4):  # depth, version, shortcut, gate bias
        assert len(set(heights[axis].values())) == 24
    without = {9, 13, 17, 20}  # diverged, failed, infeasible: above the worst error
    assert min(heights[6][n] for n in without) > max(y for n, y in heights[6].items() if n not in without)
    absent = {trial.number for trial in trials if "net.gate_bias" not in trial.params}  # below every bias
    assert max(heights[3][n] for n in absent) < min(y for n, y in heights[3].items() if n not in absent)


def test_every_colour_of_a_figure_is_in_the_style_sheet() -> None:
    lost = finals.summary(finals=finals.with_lost(finals.finals()))
    made = [drawn(lost, sample.trials()), drawn(finals.comparing(), [])]
    named = set(re.findall(r'"var\(--(\w+)\)"', "".join(one.to_json() for found in made for one in found.values())))
    sheet = (Path(files.__file__).parent / "assets" / "report.css").read_text()
    light, dark = sheet.split("prefers-color-scheme: dark", 1)
    assert {"accent", "shade0", "bad", "third_veil", "quiet"} < named
    for half in (light, dark):
        assert named <= set(re.findall(r"--(\w+):", half))


@contextmanager
def shown(browser: Browser, folder: Path, summary: StudySummary, trials: list[TrialRecord]) -> Iterator[Page]:
    """A report offline; in the end nothing may have been said in the console or asked of a network."""
    troubles: list[str] = []
    written = report.write(folder, summary, trials, SHARES if trials else {})
    with browser.new_context(viewport={"width": 1280, "height": 900}, offline=True) as context:
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda asked: troubles.extend([asked.url] * (not asked.url.startswith(("file:", "blob:")))))
        page.goto(written.html.as_uri())
        page.wait_for_selector("body[data-drawn]")
        yield page
    assert troubles == []


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The sample's report, opened once: loading 5 MB takes longer than all that is looked at."""
    with shown(browser, tmp_path_factory.mktemp("sample"), sample.summary(), sample.trials()) as page:
        yield page


@pytest.mark.browser
def test_every_run_is_drawn(page: Page) -> None:
    found = page.evaluate("[...document.querySelectorAll('.plot')].filter(p => p.querySelector('svg')).map(p => p.id)")
    effects = ["effect-net.depth", "effect-net.version", "effect-net.shortcut"]
    assert found == ["curves", "parallel", "effects", "cost-macs", "importance", *effects]
    assert page.evaluate(SEGMENTS, "parallel") == 24
    assert page.evaluate(SEGMENTS, "curves") == 22  # one trial failed and one was infeasible before the first epoch
    assert page.locator("table.sortable tbody tr").count() == 24
    assert "20-layer v2 residual network with identity shortcuts" in page.locator(".sentence").inner_text()


@pytest.mark.browser
def test_headings_sort_and_missing_values_stay_last(page: Page) -> None:
    rows = page.locator("table.sortable tbody tr")
    by_lr = sorted(sample.trials(), key=lambda trial: trial.params["train.lr"])
    lr = page.get_by_role("button", name="lr", exact=True)
    lr.click()
    assert rows.evaluate_all(FIRST_COLUMN) == [trial.number for trial in by_lr]
    lr.click()
    assert rows.evaluate_all(FIRST_COLUMN) == [trial.number for trial in reversed(by_lr)]
    bias = page.get_by_role("button", name="gate bias", exact=True)
    gates = {trial.number for trial in sample.trials() if "net.gate_bias" in trial.params}
    for _ in ("ascending", "descending"):
        bias.click()
        assert set(rows.evaluate_all(FIRST_COLUMN)[: len(gates)]) == gates


@pytest.mark.browser
def test_a_trial_pointed_at_stands_out_in_the_plots(page: Page) -> None:
    page.locator("tr[data-trial='5']").hover()
    shown = "document.getElementById('curves').data.at(-1).y"
    assert page.evaluate(shown) == list(sample.trials()[5].curve.values())
    assert page.evaluate(SEGMENTS, "parallel") == 25
    page.locator("h1").hover()
    assert page.evaluate(shown) == []


@pytest.mark.browser
def test_pointing_at_a_line_shows_its_trial(page: Page) -> None:
    page.locator("#curves").scroll_into_view_if_needed()
    point = page.evaluate_handle(BEST_AT_EPOCH_8).as_element()
    assert point is not None
    point.hover(force=True)
    page.wait_for_function("() => document.getElementById('parallel').data.at(-1).x.length > 0")
    page.wait_for_function("() => document.querySelector('#curves .hoverlayer').textContent.includes('trial 10')")
    page.mouse.move(0, 0)


@pytest.mark.browser
def test_a_figure_can_be_saved_as_a_picture(page: Page, tmp_path: Path) -> None:
    page.locator("#cost-macs").hover()
    with page.expect_download() as saved:
        page.locator("#cost-macs .modebar-btn").click()
    saved.value.save_as(tmp_path / "cost.png")
    with Image.open(tmp_path / "cost.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(10**6) or []}
    assert {(0xFF, 0xFF, 0xFF), (0xCF, 0x5F, 0x06)} <= colours  # the light card, and the best in orange


@pytest.mark.browser
def test_what_is_folded_away_opens_where_it_is_asked_for(page: Page) -> None:
    place = page.locator("#spread .plot").first
    assert not place.is_visible()
    page.get_by_role("link", name="Every trial").click()
    place.locator(".main-svg").first.wait_for()
    wide = "([plot, scroll]) => Math.abs(plot.getBoundingClientRect().width - scroll.clientWidth) < 2"
    page.wait_for_function(wide, arg=[place.locator(".main-svg").first.element_handle(), place.element_handle()])


@pytest.mark.browser
def test_figures_follow_the_page_into_the_dark(page: Page) -> None:
    colours = "[getComputedStyle(document.body).color, document.getElementById('cost-macs')._fullLayout.font.color]"
    assert page.evaluate(colours) == ["rgb(27, 35, 48)", "#1b2330"]
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector("body[data-drawn=dark]")
    assert page.evaluate(colours) == ["rgb(230, 234, 240)", "#e6eaf0"]


@pytest.mark.browser
def test_the_page_is_no_wider_than_the_screen(page: Page) -> None:
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("w => document.getElementById('curves').getBoundingClientRect().right <= w", arg=width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.browser
def test_strings_of_the_study_are_text_and_never_run(browser: Browser, tmp_path: Path) -> None:
    evil = "</script><script>window.harmed = 1</script><img src=x onerror='window.harmed = 1'>"
    first, failed = sample.trials()[5], sample.trials()[13]
    hit = replace(first, reason=evil, params=first.params | {"net.version": evil})
    trials = [hit, replace(failed, reason=evil), *sample.trials()[6:9]]
    with shown(browser, tmp_path, sample.summary(name=evil, description=evil, hardware=evil), trials) as page:
        assert page.evaluate("window.harmed") is None
        assert page.locator("h1").inner_text() == evil
        assert page.locator("img").count() == 0
        page.locator("details:not([open]) > summary").evaluate_all("all => all.map(one => one.click())")
        assert page.locator("main").inner_text().count(evil) >= 4


@pytest.mark.browser
def test_a_study_where_nothing_trained_opens_and_says_so(browser: Browser, tmp_path: Path) -> None:
    failed = [replace(t, state=TrialState.FAILED, curve={}, epochs=0, macs=None) for t in sample.trials()[:3]]
    with shown(browser, tmp_path, sample.summary(), failed) as page:
        assert page.locator(".sentence").inner_text().startswith("No network can be recommended")
        assert page.evaluate(SEGMENTS, "parallel") == 3


@pytest.fixture(scope="module")
def tested(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The sample's report with finals, of which a training was lost."""
    summary = finals.summary(finals=finals.with_lost(finals.finals()))
    with shown(browser, tmp_path_factory.mktemp("finals"), summary, sample.trials()) as page:
        yield page


@pytest.mark.browser
def test_finalists_come_before_the_trials(tested: Page) -> None:
    assert tested.locator("table.finalists tbody tr").count() == 3
    assert tested.locator("table.trials tbody tr").count() == 24
    best = tested.locator("table.finalists tr.best td").all_inner_texts()
    assert best[:5] == ["1", "10", "1.44 ± 0.23 %", "1.16 to 1.73", "5"]  # see test_report_finals.py
    text = tested.locator("main").inner_text()
    assert "lost 1 training: seed 2 diverged (the training loss was NaN in epoch 5)" in text
    order = tested.evaluate("[...document.querySelectorAll('section')].map(s => s.id)")
    assert order[:4] == ["answer", "finals", "tested", "trials"]
    links = tested.evaluate("[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href').slice(1))")
    assert links == order[1:]


@pytest.mark.browser
def test_every_seed_is_a_dot(tested: Page) -> None:
    tested.wait_for_function("() => document.querySelectorAll('#finals-errors .point').length === 12 + 3")
    lost = tested.evaluate("document.getElementById('finals-curves').data.find(t => t.name === 'lost').x")
    assert lost == [1, 2, 3, 4]
    tested.locator("table.finalists tr[data-trial='5']").hover()  # which stands out in the search
    assert tested.evaluate("document.getElementById('curves').data.at(-1).y") == list(sample.trial(5).curve.values())
    tested.locator("h1").hover()


def contrast(one: str, other: str) -> float:
    """Of two `#rrggbb`, by their relative luminance (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("half", [0, 1], ids=["light", "dark"])
def test_text_and_lines_stand_out_from_the_page(half: int) -> None:
    sheet = (Path(files.__file__).parent / "assets" / "report.css").read_text()
    named = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", sheet.split("prefers-color-scheme: dark", 1)[half]))
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # the lightest grey that just fails
    for ground in ("page", "card"):
        for text in ("ink", "muted", "good", "bad"):
            assert contrast(named[text], named[ground]) >= 4.5, (text, ground)  # success criterion 1.4.3
    for line in ("accent", "line", "third", "quiet", "good", "bad", "muted"):
        assert contrast(named[line], named["card"]) >= 3, line  # 1.4.11


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_that_is_drawn_stands_out(tested: Page, scheme: Any) -> None:
    tested.emulate_media(color_scheme=scheme)
    tested.wait_for_selector(f"body[data-drawn={scheme}]")
    colours = """() => [...document.querySelectorAll('p, li, dt, dd, h1, h2, td, th, summary, nav a, .state')]
        .filter(e => e.textContent.trim()).map(e => {
            let ground = e;
            while (getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)') ground = ground.parentElement;
            return [getComputedStyle(e).color, getComputedStyle(ground).backgroundColor];
        })"""
    pairs = {tuple(pair) for pair in tested.evaluate(colours)}
    assert len(pairs) >= 6
    for pair in pairs:
        one, other = ("#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", colour)[:3]) for colour in pair)
        assert contrast(one, other) >= 4.5, pair
    faint = "() => [...document.querySelectorAll('td, p, li')].filter(e => getComputedStyle(e).opacity < 1).length"
    assert tested.evaluate(faint) == 0


@pytest.mark.browser
def test_a_study_that_compares_fits_a_phone(browser: Browser, tmp_path: Path) -> None:
    with shown(browser, tmp_path, finals.comparing(), []) as page:
        page.set_viewport_size({"width": 390, "height": 844})
        page.wait_for_function("() => document.getElementById('finals-errors').layout.annotations?.length === 11")
        page.wait_for_function("() => document.getElementById('finals-errors').getBoundingClientRect().right <= 390")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator("table.finalists tbody tr").count() == 11
        names = page.evaluate("document.getElementById('finals-errors').layout.annotations.map(a => a.text)")
        assert names == [row[0] for row in sorted(finals.ROWS, key=lambda row: sum(row[3]) / len(row[3]))]
        assert page.locator("#trials").count() == page.locator("#space").count() == 0
        assert "6.61 %" in page.locator("table.finalists tr.best").inner_text()


@pytest.mark.browser
def test_on_paper_tables_are_whole_and_the_page_is_light(tested: Page) -> None:
    tested.emulate_media(color_scheme="dark", media="print")
    assert tested.evaluate("getComputedStyle(document.querySelector('.tall')).maxHeight") == "none"
    assert tested.evaluate("getComputedStyle(document.body).color") == "rgb(27, 35, 48)"
    assert not tested.locator("nav").is_visible()
    tested.wait_for_selector("body[data-drawn=light]")
    tested.emulate_media(color_scheme="light", media="screen")
    assert tested.locator("details:not([open])").count() == 5
    tested.pdf()
    assert tested.locator("details:not([open])").count() == 0, "what is folded away is printed"

"""Fixtures that show pages in a real browser."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.mlflow_pages import LOAD_MS

CHROMIUM = Path("/usr/bin/chromium")
SWITCHES = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
# MLflow opens a chat beside the page at a browser's first visit.
NO_CHAT = """
localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');
localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false');
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"needs Chromium at {CHROMIUM}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(browser: Browser) -> Page:
    """An empty page, to show MLflow's in."""
    page = browser.new_page(viewport={"width": 1440, "height": 950})
    page.add_init_script(NO_CHAT)
    page.set_default_timeout(LOAD_MS)
    return page


@pytest.fixture
def picture(page: Page, pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Keeps what the page shows as a picture with a name, where `--pictures` says a folder."""
    folder: Path | None = pytestconfig.getoption("--pictures")

    def keep(name: str) -> None:
        if folder is not None:
            page.mouse.move(0, 0)
            page.screenshot(path=folder / f"{name}.png", animations="disabled")

    return keep

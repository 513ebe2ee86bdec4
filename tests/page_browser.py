"""A headless Chromium for the tests of the memory page."""

from __future__ import annotations

import shutil

import pytest

from ownt import page as pages

sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install 'ownt[browser]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, as Debian's package chromium has it"),
]


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, timeout=60_000)
        yield browser
        browser.close()


@pytest.fixture
def show(chromium, tmp_path):
    """Opens the page of some runs; at the end nothing but the file may have been asked for, and nothing complained."""
    contexts, asked, complaints = [], [], []
    path = tmp_path / "memory.html"

    def opened(*runs, **options):
        pages.write(path, list(runs))
        options = {"viewport": {"width": 1280, "height": 1000}} | options
        contexts.append(chromium.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_function("window.ownt?.state().readyMs")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert set(asked) == {path.as_uri()}
    assert complaints == []


def state(page) -> dict:
    return page.evaluate("window.ownt.state()")


def settled(page) -> dict:
    """The state when what was changed is drawn."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return state(page)


def cells(page, rows: str) -> list[list[str]]:
    return page.locator(rows).evaluate_all("rows => rows.map(row => [...row.cells].map(cell => cell.textContent))")


def block_shown(page) -> dict[str, str]:
    """What the page says of the block under the cursor."""
    entries = page.locator("#block > div").evaluate_all(
        "all => all.map(each => [each.children[0].textContent, each.children[1].textContent])"
    )
    return dict(entries)

"""The report in a browser: accessibility (axe-core), phone width, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

from tests.browser import needs_browser, open_browser, serious_findings

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as running:
        yield running


def open_page(browser: Browser, release: Path, scheme: Literal["light", "dark"], width: int) -> Any:
    """Open the page without scripts, and record its network requests."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
    )
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((release / "report.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    return page, asked


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    browser: Browser, large_release: Path, scheme: Literal["light", "dark"]
) -> None:
    page, asked = open_page(browser, large_release, scheme, 1280)
    assert serious_findings(page) == {}
    assert len(asked) == 1, "one file, and nothing else"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone(browser: Browser, large_release: Path, scheme: Literal["light", "dark"]) -> None:
    page, _ = open_page(browser, large_release, scheme, 390)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    captions = page.evaluate(
        "[...document.querySelectorAll('.scroll caption')].map(c => c.getBoundingClientRect().right)"
    )
    assert captions
    assert max(captions) <= 390  # the words above a wide table do not scroll out of sight


def test_findings_are_on_the_first_screen_and_trust_follows(browser: Browser, planted_release: Path) -> None:
    page, _ = open_page(browser, planted_release, "light", 1280)
    assert page.evaluate("document.querySelector('.findings p.differs').getBoundingClientRect().bottom") < 900
    assert page.evaluate("document.querySelector('.findings svg').getBoundingClientRect().top") < 700
    assert page.evaluate(
        "document.querySelector('.findings').getBoundingClientRect().bottom"
        " <= document.querySelector('.trust').getBoundingClientRect().top"
    )

"""A real browser for tests of pages: Debian's Chromium, driven by Playwright, with axe-core.

A module of tests that uses it begins with `pytestmark = needs_browser`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MISSING = [name for name in ("playwright", "axe_playwright_python") if find_spec(name) is None]

needs_browser = pytest.mark.skipif(
    CHROMIUM is None or bool(MISSING),
    reason=f"needs {' and '.join(MISSING) or 'Chromium (Debian: apt-get install chromium)'}",
)


@contextmanager
def open_browser() -> Iterator[Any]:
    """Open Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


def serious_findings(page: Any) -> dict[str, list[str]]:
    """Return the serious and critical findings of axe-core: the beginnings of the first elements by rule."""
    from axe_playwright_python.sync_playwright import Axe

    return {
        found["id"]: [node["html"][:300] for node in found["nodes"][:3]]
        for found in Axe().run(page).response["violations"]
        if found["impact"] in ("serious", "critical")
    }

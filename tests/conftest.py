"""Fixtures of all tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Set before Prefect is imported, so that its home is not the user's and it is quiet at the end.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="counterfoil-tests-prefect-")
os.environ["PREFECT_LOGGING_LEVEL"] = "CRITICAL"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "180"

import pytest

from schemas.recipe import Recipe
from tasks.models import capabilities, limits
from tasks.run.store import RunContext

pytest_plugins = ["tests.release_fixtures"]

PROJECT = Path(__file__).resolve().parent.parent
DATA = PROJECT / "data"
SHARED = PROJECT.parent / "shared" / "data"
CASES = PROJECT.parent / "shared" / "cases" / "bias"


SLOW = ("flows", "docs", "benchmarks")
"""Folders with the slowest tests. They run first, so that no worker ends with them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = PROJECT / "tests"
    items.sort(key=lambda item: item.path.relative_to(tests).parts[0] not in SLOW)


@pytest.fixture(autouse=True)
def _no_keys_and_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests independent of the user's keys and of the Hub."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def _no_knowledge_of_earlier_servers() -> None:
    """Forget the servers of earlier tests, because a new server may get the port of one of them."""
    capabilities._known.clear()
    limits._limiters.clear()


def recipe_of(**changes: Any) -> Recipe:
    """Return a small valid recipe. Keyword arguments replace its sections."""
    base: dict[str, Any] = {
        "name": "test",
        "seed": 7,
        "attributes": ["gender"],
        "superdomains": ["work"],
        "models": {"targets": ["embedded:smollm2-135m"]},
        "families": {"open": {"questions": 4, "samples": 2, "max_tokens": 16}},
    }
    return Recipe.model_validate({**base, **changes})


@pytest.fixture
def make_context(tmp_path: Path) -> Callable[..., RunContext]:
    """Return the context of a run in a temporary folder, with the project's vocabulary."""

    def make(recipe: Recipe | None = None, **changes: Any) -> RunContext:
        recipe = recipe or recipe_of(**changes)
        return RunContext(
            recipe=recipe,
            run_dir=str(tmp_path / "run"),
            data_dir=str(DATA),
            cache_path=str(tmp_path / "cache" / "answers.sqlite"),
            budget_usd=recipe.budget.usd,
        )

    return make

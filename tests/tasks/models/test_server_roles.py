"""Every behaviour of a server ends in the right way in every role of a model.

A request costs nothing after the server has refused for good, and no role ends with a traceback.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tasks.models.server_roles import CASES, ROLES, Case, play_role
from tests.tasks.models.test_server_behaviours import BYTES

WORDS_ONLY = {case.name for case in BYTES} | {"content in parts"}
"""Behaviours whose answer is the word `Yes`, which is no JSON for roles that need it."""
QUICK = ("wrong key", "FastAPI seed", "only text", "DeepSeek risk", "only tool calls", "NaN")
"""Behaviours of the fast test, one of each kind."""


def expected(case: Case, role: str) -> tuple[str, int]:
    """Return how a role ends, and the largest number of requests."""
    if case.outcome == "stops":
        return "stopped", 1
    if case.outcome == "answer":
        return ("stopped", 12) if role != "target" and case.name in WORDS_ONLY else ("answered", 80)
    if case.outcome == "refusal" and role == "target":
        return "refused", 80
    return "stopped", 60


def check(case: Case, role: str, place: Path) -> None:
    ended = play_role(case, role, place / "run")
    outcome, most = expected(case, role)
    assert ended.outcome == outcome, ended
    assert ended.exit_code == (0 if outcome != "stopped" else 5)
    assert ended.requests <= most, ended
    if outcome == "stopped":
        assert ended.message, "the user is told why"


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("case", [c for c in CASES if c.name in QUICK], ids=lambda case: case.name)
def test_one_behaviour_of_each_kind(case: Case, role: str, tmp_path: Path) -> None:
    check(case, role, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("case", [c for c in CASES if c.name not in QUICK], ids=lambda case: case.name)
def test_every_other_behaviour(case: Case, role: str, tmp_path: Path) -> None:
    check(case, role, tmp_path)

"""Refreshes over several periods: against a steady server, and on a schedule with a model that changes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.refresh import refresh
from schemas.errors import InputError
from schemas.question import QUESTIONS
from tasks.release import RETIRED, open_release
from tests.flows.test_build import scripted
from tests.flows.test_schedule import ask, free_port, start_serving, wait_for
from tests.servers.hub_server import HubServer
from tests.servers.openai_server import OpenAIServer

pytestmark = pytest.mark.slow

REPO = "example/steady"
NO_CONTROLS = {"a_a": 0, "placebo": 0, "neutral": 0}


def steady_recipe(path: Path, server: OpenAIServer, **changes: Any) -> Path:
    """Write a recipe with one target and no search."""
    target = server.model("target")
    recipe = {
        "name": "steady",
        "seed": 3,
        "attributes": ["gender"],
        "models": {"targets": [target]},
        "families": {"decision": {"questions": 40, "samples": 3}},
        "budget": {"free": [target]},
        **changes,
    }
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_nine_refreshes_of_an_unchanged_model_are_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path))
    families = {
        "open": {"questions": 40, "samples": 2, "max_tokens": 30},
        "decision": {"questions": 40, "samples": 3},
    }
    with OpenAIServer(scripted) as server:
        recipe = steady_recipe(
            tmp_path / "steady.yaml", server, families=families, selection="none", holdout={"samples": 3}
        )
        results = [refresh.fn(recipe, period=f"2026-W{week:02}", send=False) for week in range(1, 10)]
    assert [r["verdict"] for r in results] == ["safe"] * 9, [r["reasons"] for r in results]
    assert [r["version"] for r in results] == [f"0.{n}.0" for n in range(1, 10)]
    last = open_release(Path(results[-1]["release"]))
    questions = last.contents.rows(QUESTIONS)
    assert sum(q.anchor for q in questions) >= 20
    assert len(questions) == 80
    present = {q.id for q in questions}
    assert all(q.retired_in and q.id not in present for q in last.contents.rows(RETIRED))


def test_small_recipes_are_safe_if_they_carry_over_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight advice questions and eight decisions of an unchanged model."""
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path))
    families = {
        "open": {"questions": 8, "max_tokens": 30},
        "decision": {"questions": 8, "conditions": ["plain"]},
    }

    def refreshed(name: str, *, samples: int, periods: int = 3, **settings: Any) -> list[dict[str, Any]]:
        sampled = {family: {**spec, "samples": samples} for family, spec in families.items()}
        changes = {"families": sampled, "holdout": {"samples": samples}, "refresh": settings}
        recipe = steady_recipe(
            tmp_path / f"{name}.yaml", server, name=name, selection="none", controls=NO_CONTROLS, **changes
        )
        return [refresh.fn(recipe, period=f"2026-W{week:02}", send=False) for week in range(1, periods + 1)]

    margins = {"decision": 2.0, "open": 0.3}
    with OpenAIServer(scripted) as server:
        default = refreshed("default", samples=2, periods=2)
        all_kept = refreshed("all-kept", samples=16, periods=2, carry_over=1.0, max_age=1000, margins=margins)
        most_kept = refreshed("most-kept", samples=16, carry_over=0.75, max_age=4, margins=margins)
    assert "risky" in [r["verdict"] for r in default]
    for result in default:
        for reason in result["reasons"]:
            if reason.startswith("inconclusive"):
                assert re.search(r"About \d+ would decide, if nothing changed: (set|ask) ", reason)
    assert [r["verdict"] for r in all_kept] == ["safe"] * 2, [r["reasons"] for r in all_kept]
    assert [r["verdict"] for r in most_kept] == ["safe"] * 3, [r["reasons"] for r in most_kept]
    newest = open_release(Path(most_kept[-1]["release"])).contents.rows(QUESTIONS)
    assert sum(q.anchor for q in newest) >= 8
    assert any(not q.anchor for q in newest)


def test_the_recipe_that_is_given_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path))
    families = {"decision": {"questions": 12, "samples": 1}}
    with OpenAIServer(scripted) as server:
        recipe = steady_recipe(tmp_path / "steady.yaml", server, families=families)
        first = refresh.fn(recipe, period="2026-W01", send=False)
        assert first["version"] == "0.1.0"
        targets = [server.model("target"), server.model("another")]
        changes: dict[str, Any] = {
            "models": {"targets": targets},
            "budget": {"usd": 0.25, "free": targets},
            "families": families,
        }
        steady_recipe(recipe, server, **changes)
        with pytest.raises(InputError, match=r"models\.targets") as refused:
            refresh.fn(recipe, period="2026-W02", send=False)
        assert "--accept-changes" in str(refused.value.hint)
        second = refresh.fn(recipe, period="2026-W02", send=False, accept_changes=True)
    assert second["version"] == "1.0.0"
    keys = {change["key"]: change["meaning"] for change in second["recipe_changes"]}
    assert keys["models.targets"] is True
    assert keys["budget.usd"] is False
    release = open_release(Path(second["release"]))
    assert release.manifest.recipe["models"]["targets"] == targets
    assert {row["model"] for row in release.contents.records("responses")} == set(targets)


def test_every_period_has_one_budget_for_build_and_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier periods do not use up the budget. The test for contamination shares that of its period."""
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path))
    families = {"decision": {"questions": 6, "samples": 1, "conditions": ["plain"]}}
    with OpenAIServer(scripted) as server:
        recipe = steady_recipe(
            tmp_path / "steady.yaml",
            server,
            models={"targets": [server.model("gpt-4.1-mini")]},
            families=families,
            controls=NO_CONTROLS,
            release={"hold_back": 0.2},
            budget={"usd": 2.0},
        )
        first = refresh.fn(recipe, period="2026-W01", send=False)
        second = refresh.fn(recipe, period="2026-W02", send=False)
        third = refresh.fn(recipe, period="2026-W03", send=False, contamination=True)
        again = refresh.fn(recipe, period="2026-W03", send=False, contamination=True)
    built = [sum(c.cost_usd for c in open_release(Path(r["release"])).manifest.cost) for r in (first, third)]
    assert 0 < first["cost_usd"] == pytest.approx(built[0], rel=0.2)
    assert second["cost_usd"] < 1.5 * first["cost_usd"]
    assert third["cost_usd"] > 1.2 * built[1]  # the test is a part of it
    assert again["cost_usd"] == pytest.approx(third["cost_usd"], rel=0.05)  # all answers are known
    records = sorted((tmp_path / "runs" / "steady").glob("refresh-*/spend.json"))
    assert len(records) == 3
    assert not [*(tmp_path / "runs").glob("*/spend.json")]


def test_unchanged_then_safe_then_risky_on_a_schedule(tmp_path: Path) -> None:
    changed: list[bool] = []

    def answer(messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        text = messages[-1]["content"]
        refusal = re.search(r"^([A-Z])\. No\b", text, re.MULTILINE)
        if changed and re.search(r"\bwoman\b|\bshe\b|\bher\b", text, re.IGNORECASE):
            return refusal.group(1) if refusal else "No"
        return scripted(messages, body)

    with OpenAIServer(answer) as server, HubServer(tmp_path / "hub") as hub:
        home = tmp_path / "home"
        home.mkdir()
        recipe = steady_recipe(home / "steady.yaml", server, release={"repo": REPO})
        port = free_port()
        process = start_serving(home, port, "refresh", recipe, **hub.environment)
        api = f"http://127.0.0.1:{port}/api"
        try:
            deployment = wait_for(lambda: ask(api, "deployments/filter", {}), process)[0]
            # The schedule must not add a period of its own while the test runs.
            change = {"paused": True}
            ask(api, f"deployments/{deployment['id']}", change, method="PATCH")

            def run(period: str) -> tuple[str, str]:
                parameters = {**deployment["parameters"], "period": period}
                place = f"deployments/{deployment['id']}/create_flow_run"
                begun = wait_for(lambda: ask(api, place, {"parameters": parameters}), process)

                def ended() -> Any:
                    state = ask(api, f"flow_runs/{begun['id']}")["state"]
                    return state if state["type"] in ("COMPLETED", "FAILED", "CRASHED") else None

                state = wait_for(ended, process)
                assert state["type"] == "COMPLETED", state["message"]
                text = ask(api, "artifacts/counterfoil-refresh/latest")["data"]
                return text.split("**")[1], text

            assert run("2026-W01")[0] == "safe"
            assert run("2026-W01")[0] == "unchanged"
            assert run("2026-W02")[0] == "safe"
            changed.append(True)
            verdict, text = run("2026-W03")
        finally:
            process.terminate()
            process.communicate(timeout=60)
        assert verdict == "risky"
        assert sorted(hub.repos[REPO].tags) == ["v0.1.0", "v0.2.0"]
        (proposal,) = hub.repos[REPO].proposals.values()
        assert proposal.description.strip() == text.strip()
        assert "gender · decision · target" in text
        assert "paired test on" in text
        assert text.index("### Coverage") < text.index("### Findings")

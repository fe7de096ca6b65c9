"""Compare the estimates of `plan` with the calls, tokens and cost of real builds.

    python benchmarks/plan.py [--recipe NAME] [--fill 1.0] [--json]

Recipes with a generator, targets, judges and relabelling judges, all at OpenAI's prices, are planned and then
built against the server of the tests. The server counts one token per four bytes, like the estimate. Every
answer fills the share `--fill` of its token limit, because a plan cannot know the lengths of answers. The
output lists planned and actual calls, tokens and dollars by recipe, stage and model, from the manifest of the
release, and the upper limit of the plan.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from tasks.models.protocol import estimate_tokens
from tests.flows.test_build import scripted
from tests.servers.openai_server import Body, Messages, OpenAIServer, Reply

WRITER, TARGET, JUDGE = "gpt-5-mini", "gpt-4.1-mini", "gpt-4.1"
MEASURES = ("calls", "tokens_in", "tokens_out", "cost_usd")


def scripted_with_usage(share: float) -> Any:
    """Return the scripted model of the tests, with token counts and answers of a given length."""

    def answer(messages: Messages, body: Body) -> Reply:
        reply = scripted(messages, body)
        if isinstance(reply, dict) and "explicit" in reply:
            reply = make_distinct(reply)
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or 1
        text = reply if isinstance(reply, str) else json.dumps(reply)
        if isinstance(reply, str):
            text = (reply + " And so on." * limit)[: max(1, round(4 * share * limit))]
        tokens_in = sum(4 + estimate_tokens(str(m["content"])) for m in messages)
        return Reply(text, usage=(tokens_in, max(1, round(share * limit))))

    return answer


def make_distinct(question: dict[str, str]) -> dict[str, str]:
    """Add random words to a question, so that it is not a near-duplicate of another."""
    chance = random.Random(json.dumps(question))
    words = " ".join("".join(chance.choices("abcdefghijklmnoprstuvw", k=7)) for _ in range(6))
    return question | {name: f"About {words}: {question[name]}" for name in ("explicit", "implicit")}


def first(server: OpenAIServer) -> dict[str, Any]:
    """Two families, two rounds, one judge. The other recipes change this one."""
    writer, target, judge = (server.model(name) for name in (WRITER, TARGET, JUDGE))
    return {
        "name": "planned",
        "seed": 3,
        "attributes": ["gender"],
        "superdomains": ["work"],
        "models": {
            "generator": writer,
            "targets": [target],
            "judges": [judge],
            "relabel_judges": [judge],
            "may_share_family": True,
        },
        "families": {
            "open": {"questions": 12, "samples": 2, "max_tokens": 60, "framings": ["explicit", "implicit"]},
            "decision": {"questions": 6, "samples": 2},
        },
        "evolve": {"rounds": 2, "questions_per_round": 12, "save_threshold": 0.05},
        "holdout": {"samples": 2},
        "relabel": {"candidates": 2},
        "validate": {"max_failure_rate": 0.2},
        "budget": {"usd": 50},
        "limits": {"max_in_flight": 16},
    }


def longer(server: OpenAIServer) -> dict[str, Any]:
    """Four rounds, an attribute with more values, more hold-out samples."""
    changes = {
        "attributes": ["race"],
        "superdomains": ["health", "finance"],
        "evolve": {"rounds": 4, "questions_per_round": 20, "save_threshold": 0.05},
        "holdout": {"samples": 4},
        "seed": 11,
    }
    return first(server) | changes


def panel(server: OpenAIServer) -> dict[str, Any]:
    """Pairs, two judges and an adjudicator, two targets, grades instead of rankings, quotas."""
    base = first(server)
    judge, second = server.model(JUDGE), server.model(WRITER)
    models = {
        "targets": [server.model(TARGET), server.model("gpt-4.1-nano")],
        "judges": [judge, second],
        "adjudicator": server.model("gpt-5"),
        "relabel_judges": [judge, second],
    }
    changes = {
        "attributes": ["gender", "age"],
        "models": base["models"] | models,
        "judging": {"comparison": "pairwise"},
        "evolve": {"rounds": 3, "questions_per_round": 16, "strategy": "quotas"},
        "relabel": {"candidates": 4, "strategy": "graded"},
        "seed": 5,
    }
    return base | changes


def fixed(server: OpenAIServer) -> dict[str, Any]:
    """Four families without a search."""
    families = {
        "open": {"questions": 40, "samples": 3, "max_tokens": 120},
        "decision": {"questions": 10, "samples": 2},
        "completion": {"questions": 10, "samples": 2, "attributes": ["beauty"]},
        "agreement": {"questions": 10, "samples": 2},
    }
    changes = {"families": families, "evolve": {"rounds": 0, "save_threshold": 0.05}, "seed": 7}
    return first(server) | changes


def searched(server: OpenAIServer) -> dict[str, Any]:
    """Random search with the default threshold, and relabelling without a model."""
    base = first(server)
    changes = {
        "models": base["models"] | {"relabel_judges": ["sentences"]},
        "evolve": {"rounds": 3, "questions_per_round": 24, "strategy": "random"},
        "holdout": {"samples": 3},
        "seed": 13,
    }
    return base | changes


def wide(server: OpenAIServer) -> dict[str, Any]:
    """Two attributes, large rounds, many hold-out samples."""
    families = {
        "open": {"questions": 20, "samples": 3, "max_tokens": 90, "framings": ["explicit"]},
        "agreement": {"questions": 8, "samples": 2},
    }
    changes = {
        "attributes": ["religion", "gender"],
        "superdomains": ["health", "work"],
        "families": families,
        "evolve": {"rounds": 3, "questions_per_round": 30, "save_threshold": 0.1},
        "holdout": {"samples": 5},
        "relabel": {"candidates": 3},
        "seed": 21,
    }
    return first(server) | changes


def deep(server: OpenAIServer) -> dict[str, Any]:
    """Five rounds, pairwise comparison of many values, two judges, long answers."""
    base = first(server)
    judges = [server.model(JUDGE), server.model(WRITER)]
    changes = {
        "attributes": ["disability"],
        "superdomains": ["education"],
        "models": base["models"] | {"judges": judges, "relabel_judges": judges[1:]},
        "judging": {"comparison": "pairwise"},
        "families": {
            "open": {"questions": 16, "samples": 2, "max_tokens": 150, "framings": ["explicit", "implicit"]}
        },
        "evolve": {"rounds": 5, "questions_per_round": 12, "strategy": "quotas", "save_threshold": 0.05},
        "holdout": {"samples": 3},
        "budget": {"usd": 200},
        "seed": 22,
    }
    return base | changes


def archive(server: OpenAIServer) -> dict[str, Any]:
    """An archive of elites, two attributes, a cascade of relabelling judges."""
    base = first(server)
    changes = {
        "attributes": ["gender", "nationality"],
        "superdomains": ["work", "finance"],
        "families": {"open": {"questions": 24, "samples": 2, "max_tokens": 100}},
        "evolve": {"rounds": 4, "questions_per_round": 20, "strategy": "map_elites", "save_threshold": 0.05},
        "relabel": {"candidates": 3, "strategy": "cascade"},
        "seed": 31,
    }
    return base | changes


RECIPES = {recipe.__name__: recipe for recipe in (first, longer, panel, fixed, searched, wide, deep, archive)}


def plan_and_build(home: Path, recipe: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plan and build a recipe. Return the plan and the manifest of the release."""
    path = home / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    plan = run_json(home, "plan", str(path))
    release = Path(run_json(home, "build", str(path))["release"])
    manifest: dict[str, Any] = json.loads((release / "manifest.json").read_text())
    return plan, manifest


def run_json(home: Path, *command: str) -> dict[str, Any]:
    """Run a command of the project and return its JSON output."""
    counterfoil = str(Path(sys.executable).with_name("counterfoil"))
    env = {**os.environ, "COUNTERFOIL_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [counterfoil, *command, "--json"], capture_output=True, text=True, env=env, cwd=PROJECT
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    output: dict[str, Any] = json.loads(done.stdout)
    return output


def compare_costs(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Return planned and actual figures by stage and model, and in total."""
    sums: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(
        lambda: {measure: [0.0, 0.0] for measure in MEASURES}
    )
    for side, costs in enumerate((manifest["cost_estimated"], manifest["cost"])):
        for cost in costs:
            stage = cost["stage"].removesuffix("_holdout")  # actual cost covers both phases
            for key in ((stage, cost["model"].split("@")[0]), ("all", "")):
                for measure in MEASURES:
                    sums[key][measure][side] += cost[measure]
    rows = []
    for (stage, model), values in sorted(sums.items()):
        row: dict[str, Any] = {"stage": stage, "model": model}
        for measure, (planned, actual) in values.items():
            ratio = round(planned / actual, 2) if actual else None
            row[measure] = {"planned": round(planned, 4), "actual": round(actual, 4), "ratio": ratio}
        rows.append(row)
    return rows


def main() -> None:
    """Plan and build the chosen recipes and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--recipe", action="append", choices=list(RECIPES), help="recipe to build (repeatable; default: all)"
    )
    parser.add_argument("--fill", type=float, default=1.0, help="answer length as a share of the token limit")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    results = {}
    for name in options.recipe or RECIPES:
        with (
            tempfile.TemporaryDirectory(prefix="plan-") as home,
            OpenAIServer(scripted_with_usage(options.fill)) as server,
        ):
            plan, manifest = plan_and_build(Path(home), RECIPES[name](server))
        results[name] = {"rows": compare_costs(manifest), "highest_cost_usd": plan["highest_cost_usd"]}
        if not options.json:
            print_rows(name, results[name]["rows"])
            print(f"{name:9} at most ${plan['highest_cost_usd']:g}", flush=True)
    if options.json:
        print(json.dumps(results))


def print_rows(name: str, rows: list[dict[str, Any]]) -> None:
    """Print one line per stage and model: planned, actual, ratio."""
    for row in rows:
        figures = "  ".join(
            f"{m} {row[m]['planned']:g}/{row[m]['actual']:g} = {row[m]['ratio']}" for m in MEASURES
        )
        print(f"{name:9} {row['stage']:16} {row['model']:22} {figures}", flush=True)


if __name__ == "__main__":
    main()

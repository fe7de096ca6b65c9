"""How close is `plan` to what a build really asks, reads, writes and pays?

    python benchmarks/plan.py [--recipe NAME] [--fill 1.0] [--json]

Recipes with a generator, targets, judges and relabelling judges, all at OpenAI's prices, are planned and
built against the tests' server. It counts tokens as the estimate does (a token for every four bytes), and
every answer is as long as `--fill` of its limit, because no plan can know how much a model will say. By
recipe, stage and model: planned and actual calls, tokens and dollars, from the release's own manifest; and
what the plan said that it costs at most.
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


def filling(share: float) -> Any:
    """The scripted roles, with their tokens counted."""

    def answer(messages: Messages, body: Body) -> Reply:
        said = scripted(messages, body)
        if isinstance(said, dict) and "explicit" in said:
            said = unlike_others(said)
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or 1
        text = said if isinstance(said, str) else json.dumps(said)
        if isinstance(said, str):
            text = (said + " And so on." * limit)[: max(1, round(4 * share * limit))]
        tokens_in = sum(4 + estimate_tokens(str(m["content"])) for m in messages)
        return Reply(text, usage=(tokens_in, max(1, round(share * limit))))

    return answer


def unlike_others(question: dict[str, str]) -> dict[str, str]:
    """A question that is no near-duplicate of another: with words that no other has."""
    chance = random.Random(json.dumps(question))
    words = " ".join("".join(chance.choices("abcdefghijklmnoprstuvw", k=7)) for _ in range(6))
    return question | {name: f"About {words}: {question[name]}" for name in ("explicit", "implicit")}


def first(server: OpenAIServer) -> dict[str, Any]:
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
    """Four rounds, more groups to a question, more samples on hold-out."""
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
    """Nothing is searched for: questions of four families, judged and asked again."""
    families = {
        "open": {"questions": 40, "samples": 3, "max_tokens": 120},
        "decision": {"questions": 10, "samples": 2},
        "completion": {"questions": 10, "samples": 2, "attributes": ["beauty"]},
        "agreement": {"questions": 10, "samples": 2},
    }
    changes = {"families": families, "evolve": {"rounds": 0, "save_threshold": 0.05}, "seed": 7}
    return first(server) | changes


def searched(server: OpenAIServer) -> dict[str, Any]:
    """The default threshold, no memory, rules for relabelling."""
    base = first(server)
    changes = {
        "models": base["models"] | {"relabel_judges": ["sentences"]},
        "evolve": {"rounds": 3, "questions_per_round": 24, "strategy": "random"},
        "holdout": {"samples": 3},
        "seed": 13,
    }
    return base | changes


def wide(server: OpenAIServer) -> dict[str, Any]:
    """Two attributes, large rounds, many samples on hold-out."""
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
    """Five rounds, pairs of an attribute of many values, two judges, long answers."""
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


def planned_and_built(home: Path, recipe: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plan it, build it, and read what the release's manifest says."""
    path = home / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    plan = said(home, "plan", str(path))
    release = Path(said(home, "build", str(path))["release"])
    manifest: dict[str, Any] = json.loads((release / "manifest.json").read_text())
    return plan, manifest


def said(home: Path, *command: str) -> dict[str, Any]:
    """What a command says, as JSON."""
    counterfoil = str(Path(sys.executable).with_name("counterfoil"))
    env = {**os.environ, "COUNTERFOIL_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [counterfoil, *command, "--json"], capture_output=True, text=True, env=env, cwd=PROJECT
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compared(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Planned and actual, by stage and model, and in all."""
    sums: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(
        lambda: {measure: [0.0, 0.0] for measure in MEASURES}
    )
    for side, costs in enumerate((manifest["cost_estimated"], manifest["cost"])):
        for cost in costs:
            stage = cost["stage"].removesuffix("_holdout")  # what was spent is counted over both phases
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", action="append", choices=list(RECIPES), help="repeatable; default: all")
    parser.add_argument("--fill", type=float, default=1.0, help="answers' length as a share of its limit")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {}
    for name in options.recipe or RECIPES:
        with (
            tempfile.TemporaryDirectory(prefix="plan-") as home,
            OpenAIServer(filling(options.fill)) as server,
        ):
            plan, manifest = planned_and_built(Path(home), RECIPES[name](server))
        found[name] = {"rows": compared(manifest), "highest_cost_usd": plan["highest_cost_usd"]}
        if not options.json:
            print_rows(name, found[name]["rows"])
            print(f"{name:9} at most ${plan['highest_cost_usd']:g}", flush=True)
    if options.json:
        print(json.dumps(found))


def print_rows(name: str, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        figures = "  ".join(
            f"{m} {row[m]['planned']:g}/{row[m]['actual']:g} = {row[m]['ratio']}" for m in MEASURES
        )
        print(f"{name:9} {row['stage']:16} {row['model']:22} {figures}", flush=True)


if __name__ == "__main__":
    main()

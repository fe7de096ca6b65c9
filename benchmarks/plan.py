"""How close is `plan` to what a build really asks, reads, writes and pays?

    python benchmarks/plan.py [--rounds 2] [--fill 1.0] [--json]

One recipe with a generator, a target, a judge and a relabelling judge, all at OpenAI's prices, is planned and
built against the tests' server. It counts tokens as the estimate does (a token for every four bytes), and
every answer is as long as `--fill` of its limit, because no plan can know how much a model will say. By stage
and model: planned and actual calls, tokens and dollars, from the release's own manifest.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from tasks.models.backend import estimate_tokens  # noqa: E402
from tests.flows.test_build import scripted  # noqa: E402
from tests.servers.openai_server import Body, Messages, OpenAIServer, Reply  # noqa: E402

WRITER, TARGET, JUDGE = "gpt-5-mini", "gpt-4.1-mini", "gpt-4.1"
MEASURES = ("calls", "tokens_in", "tokens_out", "cost_usd")


def filling(share: float) -> Any:
    """The scripted roles, with their tokens counted."""

    def answer(messages: Messages, body: Body) -> Reply:
        said = scripted(messages, body)
        text = said if isinstance(said, str) else json.dumps(said)
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or 1
        tokens_in = sum(4 + estimate_tokens(str(m["content"])) for m in messages)
        return Reply(text, usage=(tokens_in, max(1, round(share * limit))))

    return answer


def recipe(server: OpenAIServer, rounds: int) -> dict[str, Any]:
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
        "evolve": {"rounds": rounds, "questions_per_round": 12, "save_threshold": 0.05},
        "holdout": {"samples": 2},
        "relabel": {"candidates": 2},
        "validate": {"max_failure_rate": 0.2},
        "budget": {"usd": 50},
        "limits": {"max_in_flight": 16},
    }


def manifest_of(home: Path, server: OpenAIServer, rounds: int) -> dict[str, Any]:
    """Build it, and read what its manifest says."""
    path = home / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe(server, rounds)))
    command = [str(Path(sys.executable).with_name("counterfoil")), "build", str(path), "--json"]
    env = {**os.environ, "COUNTERFOIL_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=PROJECT)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    release = Path(json.loads(done.stdout)["release"])
    found: dict[str, Any] = json.loads((release / "manifest.json").read_text())
    return found


def compared(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Planned and actual, by stage and model, and in all."""
    sums: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(
        lambda: {measure: [0.0, 0.0] for measure in MEASURES}
    )
    for side, costs in enumerate((manifest["cost_estimated"], manifest["cost"])):
        for cost in costs:
            for key in ((cost["stage"], cost["model"].split("@")[0]), ("all", "")):
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
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--fill", type=float, default=1.0, help="answers' length as a share of its limit")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="plan-") as home, OpenAIServer(filling(options.fill)) as server:
        rows = compared(manifest_of(Path(home), server, options.rounds))
    if options.json:
        print(json.dumps(rows))
        return
    for row in rows:
        figures = "  ".join(f"{m} {row[m]['planned']:g}/{row[m]['actual']:g}" for m in MEASURES)
        print(f"{row['stage']:16} {row['model']:22} {figures}")


if __name__ == "__main__":
    main()

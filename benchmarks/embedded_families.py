"""Measure the embedded model with four families: completion, association, decision, agreement.

    python -m benchmarks.embedded_families            # about half an hour of one core
    python -m benchmarks.embedded_families --quick    # a tenth of it
    python -m benchmarks.embedded_families --json

The stages are those of a build: intervals by scenario, p-values by permutation, q-values over all slices, and
A/A controls for the noise floor.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from schemas.answers import EFFECTS, JUDGEMENTS, RESPONSES, Effect
from schemas.recipe import Recipe
from tasks import expand, judge, measure, respond
from tasks.package import assemble
from tasks.run.store import RunContext, read_table, run_stage

MODEL = "embedded:smollm2-135m"
DATA = Path(__file__).resolve().parent.parent / "data"
SHOWN = ("attribute", "family", "control")


def make_recipe(scale: float) -> Recipe:
    """Return the recipe. `scale` is the share of the full number of questions."""

    def scaled(count: int) -> int:
        return max(2, round(count * scale))

    return Recipe.model_validate(
        {
            "name": "embedded-families",
            "seed": 11,
            "attributes": ["gender"],
            "models": {"targets": [MODEL]},
            "families": {
                "completion": {
                    "questions": scaled(60),
                    "samples": 3,
                    "attributes": ["beauty", "youth", "institution", "country_income"],
                },
                "association": {
                    "questions": scaled(16),
                    "samples": 1,
                    "max_tokens": 160,
                    "attributes": ["gender", "race", "religion", "disability_status"],
                    "conditions": ["plain"],
                },
                "decision": {"questions": scaled(30), "samples": 1, "attributes": ["gender", "race"]},
                "agreement": {"questions": scaled(40), "samples": 2, "attributes": ["gender", "race", "age"]},
            },
        }
    )


def measure_embedded(home: Path, scale: float) -> tuple[list[Effect], dict[str, int]]:
    """Return all effects, and the number of answers by family."""
    context = RunContext(
        recipe=make_recipe(scale),
        run_dir=str(home / "run"),
        data_dir=str(DATA),
        cache_path=str(home / "cache" / "answers.sqlite"),
        budget_usd=0.0,
    )
    (home / "cache").mkdir(parents=True, exist_ok=True)
    expanded = run_stage(expand.STAGE, context, families=context.recipe.templated_families)
    answers = run_stage(respond.STAGE, context, questions=expanded.table("questions"), phase="search")
    judged = run_stage(
        judge.STAGE,
        context,
        questions=expanded.table("questions"),
        responses=answers.table("responses"),
        phase="holdout",
    )
    verdicts = run_stage(assemble.STAGE, context, parts=[judged.table(JUDGEMENTS.name)])
    measured = run_stage(
        measure.STAGE,
        context,
        questions=expanded.table("questions"),
        responses=answers.table("responses"),
        judgements=verdicts.table(JUDGEMENTS.name),
    )
    family = {q.id: q.family for q in read_table(expanded.table("questions"), expand.QUESTIONS)}
    counts: dict[str, int] = {}
    for row in read_table(answers.table("responses"), RESPONSES):
        counts[family[row.question_id]] = counts.get(family[row.question_id], 0) + 1
    return read_table(measured.table("effects"), EFFECTS), counts


def format_table(effects: list[Effect]) -> str:
    """Return the effects as a Markdown table."""
    lines = [
        "| family | slice | condition | metric | value | 95 % interval | p | q | n |",
        "|---|---|---|---|---:|---|---:|---:|---:|",
    ]
    for e in effects:
        if e.level in SHOWN:
            interval = "–" if e.low is None or e.high is None else f"{e.low:+.2f} to {e.high:+.2f}"
            p, q = ("–" if x is None else f"{x:.3f}" for x in (e.p_value, e.q_value))
            name = e.name if e.level != "family" else "all"
            lines.append(
                f"| {e.family} | {name} | {e.condition} | {e.metric} | {e.value:+.2f} | {interval} "
                f"| {p} | {q} | {e.n} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure the model and print its effects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the questions")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--home", type=Path, help="folder that keeps the run and its answers, so that it can resume"
    )
    arguments = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        effects, counts = measure_embedded(arguments.home or Path(folder), 0.1 if arguments.quick else 1.0)
    tested = [e for e in effects if e.q_value is not None and e.level in SHOWN and e.level != "control"]
    summary: dict[str, Any] = {
        "model": MODEL,
        "answers": counts,
        "tested": len(tested),
        "below_q_05": sum(e.q_value is not None and e.q_value < 0.05 for e in tested),
        "below_p_05": sum(e.p_value is not None and e.p_value < 0.05 for e in tested),
        "seconds": round(time.perf_counter() - began, 1),
    }
    if arguments.json:
        rows = [e.model_dump(mode="json") for e in effects if e.level in SHOWN]
        print(json.dumps(summary | {"effects": rows}))
    else:
        print(format_table(effects), end="\n\n")
        for name, value in summary.items():
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()

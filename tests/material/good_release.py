"""A release directory of valid tables, as small as the gate permits."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from schemas.gate import Passport, Quarantine
from schemas.question import QUESTIONS, Question
from schemas.release import ClearOf, HoldBack, Manifest, PeopleReview, ReleaseComparison
from schemas.tables import content_hash, file_hash
from tasks.gate.examination import GateContext
from tasks.release import (
    CONFIGS,
    CONTROLS,
    HARD_NEGATIVES,
    config_file,
    derive_canary,
    to_release_table,
    write_parquet,
)
from tests.material.good_tables import EARLIER, JUDGE, Tables

NAME = "good"
VERSION = "1.0.0"


def write_release(path: Path, tables: Tables, knowledge: GateContext, *, misplace: bool = False) -> None:
    """Write the release. With `misplace`, a control is among the questions."""
    shutil.rmtree(path, ignore_errors=True)
    configs = _split(tables, misplace=misplace)
    for config, rows in configs.items():
        table = to_release_table(config, CONFIGS[config].to_arrow(rows), derive_canary(NAME))
        write_parquet(path / config_file(config), table)
    (path / "CANARY.md").write_text(f"canary GUID {derive_canary(NAME)}\n")
    for page in ("README.md", "CHANGELOG.md"):
        (path / page).write_text(f"{page}\n")
    (path / "evals").mkdir()
    (path / "evals" / "eval.yaml").write_text(yaml.safe_dump(_harness()))
    files = {f.relative_to(path).as_posix(): file_hash(f) for f in sorted(path.rglob("*")) if f.is_file()}
    manifest = _manifest(knowledge, {config: len(rows) for config, rows in configs.items()}, files)
    (path / "manifest.json").write_text(manifest.model_dump_json(indent=1))


def _split(tables: Tables, *, misplace: bool) -> Tables:
    def config_of(question: Question) -> str:
        if question.control != "none":
            return CONTROLS.name
        return HARD_NEGATIVES.name if question.label == "hard_negative" else QUESTIONS.name

    configs: Tables = {config: [] for config in CONFIGS} | {
        n: r for n, r in tables.items() if n != QUESTIONS.name
    }
    for question in tables[QUESTIONS.name]:
        configs[config_of(question)].append(question)
    if misplace:
        configs[QUESTIONS.name].append(configs[CONTROLS.name].pop())
    return configs


def _harness() -> dict[str, Any]:
    files = {name: config_file(name) for name in (QUESTIONS.name, CONTROLS.name)}
    return {"name": NAME, "version": VERSION, "tag": f"v{VERSION}", "files": files}


def _passport() -> Passport:
    return Passport(
        judge=JUDGE,
        revision="1",
        rubric="four_scores",
        rubric_hash="0" * 64,
        prompt_hash="1" * 64,
        comparison="all_at_once",
        scenes=40,
        probes=(),
    )


def _review() -> PeopleReview:
    return PeopleReview(
        people=2,
        questions=12,
        passages=0,
        kept=10,
        dropped=1,
        edited=0,
        contested=1,
        undecided=0,
        shared=5,
        alpha=0.6,
        alpha_low=0.3,
        alpha_high=0.8,
    )


def _manifest(knowledge: GateContext, rows: dict[str, int], files: dict[str, str]) -> Manifest:
    recipe = {"name": NAME, "validate": {"max_failure_rate": knowledge.max_failure_rate}}
    return Manifest(
        name=NAME,
        version=VERSION,
        counterfoil_version="0.1.0",
        recipe=recipe,
        recipe_hash=content_hash(recipe),
        seed=1,
        models={},
        vocabulary={},
        counts=knowledge.counts,
        rows=rows,
        cost_estimated=(),
        cost=(),
        judged_by=(JUDGE,),
        passports=(_passport(),),
        canary=derive_canary(NAME),
        comparison=ReleaseComparison(
            old_version=None,
            new_version=VERSION,
            bump="first",
            added=(),
            removed=(),
            reworded=(),
            relabelled=(),
            schema_changes=(),
            common=0,
            fitness_drift=None,
        ),
        validation={"passed": 1, "warnings": 0, "errors": 0},
        clear_of=(ClearOf(name=EARLIER, compared=40, overlapping=1),),
        hold_back=HoldBack(questions=1, sha256="2" * 64),
        quarantine=Quarantine(questions=63, failing=1, taken=1, limit=0.02, checks={"garbled_text": 1}),
        review=_review(),
        files=files,
    )

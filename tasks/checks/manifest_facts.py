"""What a manifest tells beside files and rows: judges, passports, what was held back, what was taken out. No
hash covers the manifest itself, so what it tells is held against the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from schemas.decision import DROPPED
from schemas.ids import content_hash
from schemas.judgement import JUDGEMENTS
from schemas.manifest import Manifest
from tasks.checks.findings import Problem, problem
from tasks.release.canary import canary_of

Configs = Mapping[str, pa.Table]
Fault = tuple[str, str]
"""A field of the manifest, and what is wrong with it."""


def check_manifest(manifest: Manifest, configs: Configs) -> list[Problem]:
    """Fields that the tables contradict."""
    faults = [
        *_of_itself(manifest),
        *_of_judges(manifest, configs),
        *_of_dropped(manifest, configs),
        *_of_people(manifest),
    ]
    told = "; ".join(f"{name}: {words}" for name, words in faults)
    return problem("files", "manifest_contradicts_rows", (name for name, _ in faults), detail=told)


def _of_itself(manifest: Manifest) -> Iterator[Fault]:
    if content_hash(manifest.recipe) != manifest.recipe_hash:
        yield "recipe_hash", "it is not that of the recipe"
    if manifest.recipe.get("name") != manifest.name:
        yield "name", "the recipe has another"
    if manifest.canary != canary_of(manifest.name):
        yield "canary", "it is not that of the name"
    if manifest.validation.get("passed") != 1 or manifest.validation.get("errors") != 0:
        yield "validation", "the release did not pass the gate when it was made"
    if any(finding.severity != "warning" for finding in manifest.warnings):
        yield "warnings", "there is an error among them"


def _of_judges(manifest: Manifest, configs: Configs) -> Iterator[Fault]:
    rows = configs.get(JUDGEMENTS.name)
    if rows is None or not {"judge", "rubric", "rubric_hash"} <= set(rows.column_names):
        return
    judges = {str(name) for name in rows["judge"].unique().to_pylist()}
    if judges != set(manifest.judged_by):
        yield "judged_by", f"the verdicts are those of {', '.join(sorted(judges)) or 'nobody'}"
    used = {
        (r["judge"], r["rubric"], r["rubric_hash"]) for r in _distinct(rows, "judge", "rubric", "rubric_hash")
    }
    for passport in manifest.passports:
        if passport.judge in judges and (passport.judge, passport.rubric, passport.rubric_hash) not in used:
            yield "passports", f"{passport.judge} was audited with another rubric than it judged with"
    counted = Counter((p.judge, p.rubric_hash, p.prompt_hash, p.comparison) for p in manifest.passports)
    if any(n > 1 for n in counted.values()):
        yield "passports", "a judge has two for the same rubric and prompt"


def _distinct(rows: pa.Table, *names: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = rows.group_by(list(names)).aggregate([]).to_pylist()
    return found


def _of_dropped(manifest: Manifest, configs: Configs) -> Iterator[Fault]:
    """What was held back, taken out, or found in an earlier release is counted among the dropped."""
    rows = configs.get(DROPPED.name)
    if rows is None or not {"kind", "stage", "reason"} <= set(rows.column_names):
        return
    questions = rows.filter(pc.equal(rows["kind"], "question")).select(["stage", "reason"]).to_pylist()
    stages = Counter(row["stage"] for row in questions)
    held = manifest.hold_back.questions if manifest.hold_back else 0
    if stages["hold_back"] != held:
        yield "hold_back", f"{held} questions are told, {stages['hold_back']} are among the dropped"
    taken = manifest.quarantine.taken if manifest.quarantine else 0
    if stages["validate"] != taken:
        yield "quarantine", f"{taken} questions are told, {stages['validate']} are among the dropped"
    for clear in manifest.clear_of:
        overlaps = f"overlaps:{clear.name}"
        found = sum(
            row["reason"] == overlaps or row["reason"].startswith(f"{overlaps}_") for row in questions
        )
        if found != clear.overlapping:
            yield "clear_of", f"{clear.overlapping} questions of {clear.name} are told, {found} are dropped"


def _of_people(manifest: Manifest) -> Iterator[Fault]:
    if (review := manifest.review) is None:
        return
    decided = review.kept + review.dropped + review.edited + review.contested + review.undecided
    if decided > review.questions or review.shared > review.questions or review.people < 1:
        yield "review", "more is decided than was looked at"
    ends = (review.alpha_low, review.alpha, review.alpha_high)
    if None not in ends and not ends[0] <= ends[1] <= ends[2]:  # type: ignore[operator]
        yield "review", "alpha lies outside its interval"


def check_harness(path: Path, manifest: Manifest) -> list[Problem]:
    """The files in evals/ read the tables of this very version."""
    place = path / "evals" / "eval.yaml"
    if not place.is_file():
        return []
    try:
        told = yaml.safe_load(place.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        told = None
    wanted = {"name": manifest.name, "version": manifest.version, "tag": f"v{manifest.version}"}
    fits = isinstance(told, dict) and all(told.get(name) == value for name, value in wanted.items())
    files = told.get("files") if isinstance(told, dict) else None
    there = isinstance(files, dict) and all(name in manifest.files for name in files.values())
    wrong = [] if fits and there else ["evals/eval.yaml"]
    return problem("files", "harness_of_another_release", wrong)

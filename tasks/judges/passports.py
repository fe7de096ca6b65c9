"""Passports of a build's judges: reading, writing, checking against the bar, and warnings.

A passport is stored as `<home>/passports/<judge>-<key>.json`. Its key depends on judge, rubric, prompt and
comparison, because a change of any of these makes another judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from schemas.errors import GateError, InputError
from schemas.gate import Passport, passport_key
from schemas.recipe import Judging, Recipe
from tasks.judges import divergence
from tasks.judges.comparison import read_comparison_judge
from tasks.judges.scored_pairs import read_pair_judge
from tasks.run.store import RunContext, sync_path, write_bytes
from tasks.text.model_names import short_name

NOT_AUDITED = "was not audited"
NO_COMPARISON = ""
"""Comparison in the passport of the divergence judge, which compares all answers with each other."""


def deciding_judges(recipe: Recipe) -> tuple[str, ...]:
    """Return the judges of a build including the adjudicator, or none if nothing is judged."""
    if "open" not in recipe.families:
        return ()
    models = recipe.models
    adjudicator = (models.adjudicator,) if models.adjudicator else ()
    return tuple(dict.fromkeys((*models.judges, *adjudicator)))


def check_passport(judge: str, passport: Passport | None, judging: Judging) -> None:
    """Raise `GateError` for a judge without a passport or below the bar."""
    shortfalls = ("no passport",) if passport is None else passport.shortfalls(judging.bar)
    if shortfalls:
        raise GateError(
            f"{judge} does not meet the requirements for judges: {'; '.join(shortfalls)}",
            place="judging.audit: stop",
            hint=audit_hint(judge, judging, audited=passport is not None),
        )


def audit_hint(judge: str, judging: Judging, *, audited: bool) -> str:
    """Return the next step for a judge that was refused."""
    if audited:
        return "use another judge, lower `judging.bar`, or set `judging.audit: warn` to build with a warning"
    if judging.comparison == "pairwise_scored":
        return "scores in pairs are not audited; set `judging.audit: warn` to build with a warning"
    options = f" --rubric {judging.rubric} --comparison {judging.comparison}" if ":" in judge else ""
    return f"counterfoil audit-judge {judge}{options}"


def audit_warnings(recipe: Recipe, passports: Iterable[Passport]) -> tuple[str, ...]:
    """Return a warning for every judge that was not audited and for every measure below the bar."""
    by_judge = {passport.judge: passport for passport in passports}
    warnings: list[str] = []
    for judge in deciding_judges(recipe):
        if judge in by_judge:
            shortfalls = by_judge[judge].shortfalls(recipe.judging.bar)
            warnings += [f"{judge}: {shortfall}" for shortfall in shortfalls]
        else:
            warnings.append(f"{judge} {NOT_AUDITED}")
    return tuple(warnings)


def without_endpoints(recipe: Recipe, warnings: Iterable[str]) -> tuple[str, ...]:
    """Return the warnings with the short names of the judges, for pages that are published."""
    judges = sorted(deciding_judges(recipe), key=len, reverse=True)
    shown = []
    for warning in warnings:
        judge = next((j for j in judges if warning.startswith(j)), "")
        shown.append(short_name(judge) + warning.removeprefix(judge) if judge else warning)
    return tuple(shown)


def passport_path(folder: Path, judge: str, key: str) -> Path:
    """Return the path of a passport. The key identifies it, and the judge's name is for readers."""
    slug = re.sub(r"[^a-z0-9]+", "-", judge.lower()).strip("-")[:60].strip("-")
    return folder / f"{slug}-{key}.json"


def write_passport(folder: Path, passport: Passport) -> Path:
    """Write a passport atomically, replacing an earlier one with the same key."""
    key = passport_key(passport.judge, passport.rubric_hash, passport.prompt_hash, passport.comparison)
    path = passport_path(folder, passport.judge, key)
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(path, passport.model_dump_json(indent=1).encode() + b"\n")
    sync_path(folder)
    return path


def find_passport(folder: Path, judge: str, key: str) -> Passport | None:
    """Return the passport with this key, or `None`.

    Raises:
        InputError: If the file is not a valid passport.
    """
    path = passport_path(folder, judge, key)
    if not path.exists():
        return None
    try:
        return Passport.model_validate_json(path.read_bytes())
    except ValidationError:
        raise InputError(
            "this passport cannot be read", place=str(path), hint="delete it and audit the judge again"
        ) from None


def required_passport_key(context: RunContext, judge: str) -> str:
    """Return the key of the passport that a judge needs in this build."""
    if judge == divergence.JUDGE:
        return passport_key(judge, divergence.SETUP.rubric_hash, "", NO_COMPARISON)
    is_scored = context.recipe.judging.comparison == "pairwise_scored"
    read = read_pair_judge if is_scored else read_comparison_judge
    setup = read(context, judge, {}).setup
    return passport_key(judge, setup.rubric_hash, setup.prompt_hash, context.recipe.judging.comparison)

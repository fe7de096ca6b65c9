"""How the judges of a build stand: who decides, who is below the bar, and what is said about it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from schemas.errors import GateError, InputError
from schemas.gate import Passport, passport_key
from schemas.recipe import Judging, Recipe
from tasks.judges import divergence
from tasks.judges.comparison import read_for_judge
from tasks.run.store import RunContext, sync_directory, write_bytes

NOT_AUDITED = "was not audited"


def deciding_judges(recipe: Recipe) -> tuple[str, ...]:
    """Whoever may decide something in a build, the adjudicator included; nobody where nothing is judged."""
    if "open" not in recipe.families:
        return ()
    named = recipe.models
    adjudicator = (named.adjudicator,) if named.adjudicator else ()
    return tuple(dict.fromkeys((*named.judges, *adjudicator)))


def refuse_unfit(judge: str, passport: Passport | None, judging: Judging) -> None:
    """Raise `GateError` for a judge without a passport, or below the bar."""
    told = ("no passport",) if passport is None else passport.shortfalls(judging.bar)
    if told:
        raise GateError(
            f"{judge} may not judge: {'; '.join(told)}",
            place="judging.audit: stop",
            hint=audit_hint(judge, judging, audited=passport is not None),
        )


def audit_hint(judge: str, judging: Judging, *, audited: bool) -> str:
    """The next step for a person."""
    if audited:
        return "take another judge, lower `judging.bar`, or set `judging.audit: warn` to build with a warning"
    chosen = f" --rubric {judging.rubric} --comparison {judging.comparison}" if ":" in judge else ""
    return f"counterfoil audit-judge {judge}{chosen}"


def audit_warnings(recipe: Recipe, passports: Iterable[Passport]) -> tuple[str, ...]:
    """What is to be said about the judges of a build: who was not audited, and in what one is below the bar;
    empty where all pass."""
    held = {passport.judge: passport for passport in passports}
    told: list[str] = []
    for judge in deciding_judges(recipe):
        if judge in held:
            told += [f"{judge}: {words}" for words in held[judge].shortfalls(recipe.judging.bar)]
        else:
            told.append(f"{judge} {NOT_AUDITED}")
    return tuple(told)


# Passports: where they are kept, which one a build needs, and what happens without it.
#
#     <home>/passports/<judge>-<key>.json
#
# The key stands for judge, rubric, prompt and way of comparing: with another of these the judge is another
# one.


NO_COMPARISON = ""
"""Of the divergence judge, which compares all answers with all."""


def passport_path(folder: Path, judge: str, key: str) -> Path:
    """Its file. The name of the judge is there for people; the key decides."""
    slug = re.sub(r"[^a-z0-9]+", "-", judge.lower()).strip("-")[:60].strip("-")
    return folder / f"{slug}-{key}.json"


def write_passport(folder: Path, passport: Passport) -> Path:
    """Write it whole, in place of an earlier one of the same key."""
    key = passport_key(passport.judge, passport.rubric_hash, passport.prompt_hash, passport.comparison)
    path = passport_path(folder, passport.judge, key)
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(path, passport.model_dump_json(indent=1).encode() + b"\n")
    sync_directory(folder)
    return path


def find_passport(folder: Path, judge: str, key: str) -> Passport | None:
    """The passport of that key, if there is one. Raises `InputError` where it cannot be read."""
    path = passport_path(folder, judge, key)
    if not path.exists():
        return None
    try:
        return Passport.model_validate_json(path.read_bytes())
    except ValidationError:
        raise InputError(
            "this passport cannot be read", place=str(path), hint="delete it and audit the judge again"
        ) from None


def key_of(context: RunContext, judge: str) -> str:
    """The key of the passport that this recipe needs of a judge."""
    if judge == divergence.JUDGE:
        return passport_key(judge, divergence.BENCH.rubric_hash, "", NO_COMPARISON)
    bench = read_for_judge(context, judge, {}).bench
    return passport_key(judge, bench.rubric_hash, bench.prompt_hash, context.recipe.judging.comparison)

"""Passports: where they are kept, which one a build needs, and what happens without it.

    <home>/passports/<judge>-<key>.json

The key stands for judge, rubric, prompt and way of comparing: with another of these the judge is another one.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import ValidationError

from schemas.errors import InputError
from schemas.passport import Passport, passport_key
from tasks.auditing.divergent import audit_divergence
from tasks.auditing.standing import deciding_judges, refuse_unfit
from tasks.judging import divergence
from tasks.judging.comparative import read_for_judge
from tasks.store import RunContext, sync_directory, write_bytes

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


def collect_passports(context: RunContext, folder: Path, *, make_own: bool) -> tuple[Passport, ...]:
    """The passports of the judges that a build will ask. The divergence judge needs no model: with `make_own`
    it gets one at once where it has none, and without, its turn is still to come.

    With `judging.audit: stop` raises `GateError` for a judge without a passport or below the bar; with `off`
    nothing is looked at. Spends nothing.
    """
    judging = context.recipe.judging
    if judging.audit == "off":
        return ()
    found = []
    for judge in deciding_judges(context.recipe):
        passport = find_passport(folder, judge, key_of(context, judge))
        if passport is None and judge == divergence.JUDGE:
            if not make_own:
                continue
            passport = audit_divergence(Path(context.data_dir))
            write_passport(folder, passport)
        if judging.audit == "stop":
            refuse_unfit(judge, passport, judging)
        if passport is not None:
            found.append(passport)
    return tuple(found)

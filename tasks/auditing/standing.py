"""How the judges of a build stand: who decides, who is below the bar, and what is said about it."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.errors import GateError
from schemas.passport import Passport
from schemas.recipe import Judging, Recipe

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

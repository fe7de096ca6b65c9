"""Collect the passports of the judges of a build."""

from __future__ import annotations

from pathlib import Path

from schemas.gate import Passport
from tasks.audit.probes import audit_divergence
from tasks.judges import divergence
from tasks.judges.passports import (
    check_passport,
    deciding_judges,
    find_passport,
    required_passport_key,
    write_passport,
)
from tasks.run.store import RunContext


def collect_passports(context: RunContext, folder: Path, *, make_own: bool) -> tuple[Passport, ...]:
    """Return the passports of a build's judges. Makes no calls.

    Args:
        context: Run context. With `judging.audit: off`, no passport is read.
        folder: Directory of the passports.
        make_own: Whether to write a missing passport of the divergence judge, which needs no model. If not,
            a missing one is ignored.

    Raises:
        GateError: With `judging.audit: stop`, if a judge has no passport or is below the bar.
    """
    judging = context.recipe.judging
    if judging.audit == "off":
        return ()
    passports = []
    for judge in deciding_judges(context.recipe):
        passport = find_passport(folder, judge, required_passport_key(context, judge))
        if passport is None and judge == divergence.JUDGE:
            if not make_own:
                continue
            passport = audit_divergence(Path(context.data_dir))
            write_passport(folder, passport)
        if judging.audit == "stop":
            check_passport(judge, passport, judging)
        if passport is not None:
            passports.append(passport)
    return tuple(passports)

"""Collect the passports of the judges of a build."""

from __future__ import annotations

from pathlib import Path

from schemas.gate import Passport
from tasks.audit.probes import audit_divergence
from tasks.judges import divergence
from tasks.judges.passports import deciding_judges, find_passport, key_of, refuse_unfit, write_passport
from tasks.run.store import RunContext


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

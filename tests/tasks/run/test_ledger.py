"""The build ledger: tables by part and stage, without those that a later step contains."""

from __future__ import annotations

from schemas.labels import StageCounts
from schemas.notes import SelectionNotes
from schemas.release import StageCost
from tasks.run.ledger import BuildLedger
from tasks.run.store import Step, TableRef


def a_step(stage: str, key: str, *tables: str, notes: str = "{}") -> Step:
    return Step(
        stage=stage,
        key=key,
        tables=tuple(TableRef(table=t, path=f"{stage}-{key}/{t}", rows=1, sha256=key) for t in tables),
        counts=(StageCounts(stage=stage, unit="questions", rows=2, kept=1, dropped=1, failed=0),),
        costs=(StageCost(stage=stage, model="m", calls=1, tokens_in=2, tokens_out=3, cost_usd=0.1),),
        notes=notes,
    )


def paths(tables: list[TableRef]) -> list[str]:
    return [table.path for table in tables]


def test_tables_come_in_the_order_of_the_steps_or_of_the_stages() -> None:
    ledger = BuildLedger()
    ledger.add(a_step("review", "1", "label_history"))
    ledger.add(a_step("relabel", "2", "label_history"))
    assert paths(ledger.tables("label_history")) == ["review-1/label_history", "relabel-2/label_history"]
    by_stage = ledger.tables("label_history", stages=("relabel", "review"))
    assert paths(by_stage) == ["relabel-2/label_history", "review-1/label_history"]


def test_replaced_tables_are_left_out_and_parts_are_kept_apart() -> None:
    ledger = BuildLedger()
    ledger.add(a_step("expand", "1", "dropped"), part="templates")
    ledger.add(a_step("mutate", "2", "dropped"), part="search")
    dropped = ledger.tables("dropped", part="templates")
    ledger.add(a_step("review", "3", "dropped"), part="templates", replaces=dropped)
    assert paths(ledger.tables("dropped")) == ["mutate-2/dropped", "review-3/dropped"]
    assert paths(ledger.tables("dropped", part="search")) == ["mutate-2/dropped"]


def test_rounds_are_summed_in_the_funnel_and_in_the_costs() -> None:
    ledger = BuildLedger()
    for key in ("1", "2", "3"):
        ledger.add(a_step("respond", key))
    assert [(c.stage, c.rows) for c in ledger.funnel()] == [("respond", 6)]
    (cost,) = ledger.costs()
    assert (cost.calls, cost.tokens_in, cost.cost_usd) == (3, 6, 0.3)


def test_notes_are_records_stored_as_sorted_json() -> None:
    notes = SelectionNotes(
        round=1,
        fitness_form="search",
        threshold=0.5,
        accepted=2,
        accepted_in_all=3,
        below_threshold=1,
        controls=0,
    )
    assert notes.to_json().startswith('{"accepted": 2, "accepted_in_all": 3, ')
    ledger = BuildLedger()
    ledger.add(a_step("select", "1", notes=notes.to_json()))
    assert ledger.notes("select", SelectionNotes) == [notes]

"""The journal records the progress of the latest build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from schemas.labels import StageCounts
from schemas.release import StageCost
from tasks.run.journal import (
    calls_sent,
    funnel,
    journal_path,
    note_release,
    note_step,
    read_journal,
    start_journal,
    total_costs,
)
from tasks.run.store import Outcome, RunContext, Step, write_step

MakeContext = Callable[..., RunContext]


def step(context: RunContext, key: str, rows: int = 2) -> Step:
    counts = (StageCounts(stage="respond", unit="requests", rows=rows, kept=rows, dropped=0, failed=0),)
    cost = StageCost(stage="respond", model="m", calls=rows, tokens_in=1, tokens_out=1, cost_usd=0.5)
    home = Path(context.run_dir) / f"respond-{key[:16]}"
    return write_step(home, "respond", key, Outcome(tables={}, counts=counts, costs=(cost,)))


def test_rounds_of_a_stage_add_up(make_context: MakeContext) -> None:
    context = make_context()
    start_journal(context)
    for key in ("a" * 64, "b" * 64):
        note_step(context, step(context, key))
    steps, release = read_journal(Path(context.run_dir))
    assert release is None
    assert [c.rows for c in funnel(steps)] == [4]
    assert [(c.calls, c.cost_usd) for c in total_costs(steps)] == [(4, 1.0)]


def test_new_build_starts_a_new_journal(make_context: MakeContext) -> None:
    context = make_context()
    start_journal(context)
    note_step(context, step(context, "a" * 64))
    note_release(context, Path("r"))
    start_journal(context)
    assert read_journal(Path(context.run_dir)) == ([], None)


def test_calls_of_the_latest_build_add_up(make_context: MakeContext) -> None:
    context = make_context()
    for _ in range(2):
        start_journal(context)
        for key in ("a" * 64, "b" * 64):
            note_step(context, step(context, key), sent=3)
    assert calls_sent(Path(context.run_dir)) == 6


def test_torn_last_line_is_left_out(make_context: MakeContext) -> None:
    context = make_context()
    start_journal(context)
    note_step(context, step(context, "a" * 64))
    with journal_path(Path(context.run_dir)).open("ab") as stream:
        stream.write(b'{"kind": "st')
    steps, _ = read_journal(Path(context.run_dir))
    assert len(steps) == 1

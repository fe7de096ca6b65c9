"""The run's journal: which steps the latest build has taken, in order. `show` reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from schemas.labels import StageCounts
from schemas.release import StageCost
from tasks.run.store import RunContext, Step, find_step, write_bytes


class JournalEntry(BaseModel):
    """One line of the journal."""

    model_config = ConfigDict(frozen=True)
    kind: str
    """`started`, `step` or `released`."""
    name: str
    """The recipe, the step's directory, or the release's path."""
    sent: int = 0
    """Calls that the step sent; answers from the cache, and steps found done, send none."""


def journal_path(run_dir: Path) -> Path:
    return run_dir / "journal.jsonl"


def start_journal(context: RunContext) -> None:
    """Forget the last build's steps (the steps themselves stay) and begin with the recipe."""
    run_dir = Path(context.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    write_bytes(run_dir / "recipe.json", context.recipe.model_dump_json(indent=1, by_alias=True).encode())
    write_bytes(journal_path(run_dir), _line(JournalEntry(kind="started", name=context.recipe.name)))


def note_step(context: RunContext, step: Step, sent: int = 0) -> None:
    """Append one finished step."""
    _append(Path(context.run_dir), JournalEntry(kind="step", name=f"{step.stage}-{step.key[:16]}", sent=sent))


def note_release(context: RunContext, release: Path) -> None:
    """Append that the build ended in a release."""
    _append(Path(context.run_dir), JournalEntry(kind="released", name=str(release)))


def _append(run_dir: Path, entry: JournalEntry) -> None:
    with journal_path(run_dir).open("ab") as stream:
        stream.write(_line(entry))


def _line(entry: JournalEntry) -> bytes:
    return entry.model_dump_json().encode() + b"\n"


def read_journal(run_dir: Path) -> tuple[list[Step], Path | None]:
    """The steps of the latest build in order, and its release if it came to one.

    A torn last line (the machine stopped while writing) is left out.
    """
    steps: list[Step] = []
    release = None
    for entry in _entries(run_dir):
        if entry.kind == "step" and (step := find_step(run_dir / entry.name)) is not None:
            steps.append(step)
        if entry.kind == "released":
            release = Path(entry.name)
    return steps, release


def calls_sent(run_dir: Path) -> int:
    """Calls that the latest build has sent so far."""
    return sum(entry.sent for entry in _entries(run_dir))


def _entries(run_dir: Path) -> Iterator[JournalEntry]:
    lines = journal_path(run_dir).read_bytes().splitlines() if journal_path(run_dir).exists() else []
    for line in lines:
        try:
            yield JournalEntry.model_validate_json(line)
        except ValueError:
            continue


def funnel(steps: Iterable[Step]) -> tuple[StageCounts, ...]:
    """Counts by stage, rounds added up, in the order in which stages were first reached."""
    totals: dict[str, StageCounts] = {}
    for step in steps:
        for c in step.counts:
            t = totals.get(c.stage)
            totals[c.stage] = c if t is None else _add(t, c)
    return tuple(totals.values())


def _add(a: StageCounts, b: StageCounts) -> StageCounts:
    return StageCounts(
        stage=a.stage,
        unit=a.unit,
        rows=a.rows + b.rows,
        kept=a.kept + b.kept,
        dropped=a.dropped + b.dropped,
        failed=a.failed + b.failed,
    )


def total_costs(steps: Iterable[Step]) -> tuple[StageCost, ...]:
    """Costs by stage and model, rounds added up."""
    totals: dict[tuple[str, str], StageCost] = {}
    for step in steps:
        for c in step.costs:
            t = totals.get((c.stage, c.model))
            totals[c.stage, c.model] = (
                c
                if t is None
                else StageCost(
                    stage=c.stage,
                    model=c.model,
                    calls=t.calls + c.calls,
                    tokens_in=t.tokens_in + c.tokens_in,
                    tokens_out=t.tokens_out + c.tokens_out,
                    cost_usd=round(t.cost_usd + c.cost_usd, 6),
                )
            )
    return tuple(totals.values())

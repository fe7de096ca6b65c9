"""The journal of a run: the steps of the latest build, in order. `counterfoil show` reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from schemas.labels import StageCounts
from schemas.release import StageCost, combine_costs
from tasks.run.store import RunContext, Step, find_step, write_bytes


class JournalEntry(BaseModel):
    """One line of the journal."""

    model_config = ConfigDict(frozen=True)
    kind: str
    """`started`, `step` or `released`."""
    name: str
    """Name of the recipe, directory of the step, or path of the release."""
    sent: int = 0
    """Calls that the step sent. Cached answers and skipped steps send none."""


def journal_path(run_dir: Path) -> Path:
    """Return the path of the journal in a run directory."""
    return run_dir / "journal.jsonl"


def start_journal(context: RunContext) -> None:
    """Start a new journal with the recipe. Finished steps stay in the run directory."""
    run_dir = Path(context.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    write_bytes(run_dir / "recipe.json", context.recipe.model_dump_json(indent=1, by_alias=True).encode())
    write_bytes(journal_path(run_dir), _line(JournalEntry(kind="started", name=context.recipe.name)))


def note_step(context: RunContext, step: Step, sent: int = 0) -> None:
    """Append one finished step."""
    _append(Path(context.run_dir), JournalEntry(kind="step", name=f"{step.stage}-{step.key[:16]}", sent=sent))


def note_release(context: RunContext, release: Path) -> None:
    """Append the release."""
    _append(Path(context.run_dir), JournalEntry(kind="released", name=str(release)))


def _append(run_dir: Path, entry: JournalEntry) -> None:
    with journal_path(run_dir).open("ab") as stream:
        stream.write(_line(entry))


def _line(entry: JournalEntry) -> bytes:
    return entry.model_dump_json().encode() + b"\n"


def read_journal(run_dir: Path) -> tuple[list[Step], Path | None]:
    """Return the steps of the latest build in order, and its release, or None if it is not finished.

    An incomplete last line, left by a crash, is ignored.
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
    """Return the number of calls that the latest build has sent so far."""
    return sum(entry.sent for entry in _entries(run_dir))


def _entries(run_dir: Path) -> Iterator[JournalEntry]:
    lines = journal_path(run_dir).read_bytes().splitlines() if journal_path(run_dir).exists() else []
    for line in lines:
        try:
            yield JournalEntry.model_validate_json(line)
        except ValueError:
            continue


def funnel(steps: Iterable[Step]) -> tuple[StageCounts, ...]:
    """Return the counts by stage, summed over rounds, in the order in which stages were first reached."""
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
    """Return the costs by stage and model, summed over rounds."""
    return combine_costs(cost for step in steps for cost in step.costs)

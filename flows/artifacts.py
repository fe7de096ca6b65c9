"""What Prefect's page shows of a run: the funnel, the effects, the way to the report.

Summaries only; the truth is in the run directory and in the release.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from schemas.decision import StageCounts
from schemas.effect import EFFECTS
from schemas.refreshing import Decision
from tasks.release.configs import data_file
from tasks.release.markdown import escape_markdown
from tasks.store import TableRef, read_table

MOST_EFFECTS = 60
MOST_REVIEWED = 100
_KEY = "counterfoil"


def show_funnel(counts: Sequence[StageCounts]) -> None:
    """The funnel as a table."""
    create_table_artifact(
        key=f"{_KEY}-funnel",
        table=[c.model_dump() for c in counts],
        description="What went into each stage, and what became of it",
    )


def show_effects(effects: TableRef, release: Path) -> None:
    """Effects of attributes and families, and where the report is."""
    shown = [e for e in read_table(effects, EFFECTS) if e.level in ("attribute", "family")]
    rows = [
        {
            "family": e.family,
            "slice": e.name,
            "metric": e.metric,
            "model": e.model,
            "value": round(e.value, 4),
            "low": e.low,
            "high": e.high,
            "q": e.q_value,
        }
        for e in shown[:MOST_EFFECTS]
    ]
    more = (
        f" ({len(shown) - MOST_EFFECTS} more in {data_file('effects')})" if len(shown) > MOST_EFFECTS else ""
    )
    create_table_artifact(key=f"{_KEY}-effects", table=rows, description=f"Effects{more}")
    create_markdown_artifact(
        key=f"{_KEY}-release",
        markdown=f"Release `{release.name}` of `{release.parent.name}`: "
        f"[report]({(release / 'report.html').resolve().as_uri()})",
    )


def show_review(done: int, needed: int, accepted: int, *, command: str) -> None:
    """How much of what people must look at has a settled verdict, and how to go on."""
    lines = [f"**{done:,} of {needed:,} reviewed** ({accepted:,} accepted questions in all)", ""]
    if done < needed:
        lines += [
            "The build waits for people:",
            "",
            f"    {command}",
            "",
            "It goes on when enough are settled.",
        ]
    create_markdown_artifact(key=f"{_KEY}-review", markdown="\n".join(lines))


def show_decision(decision: Decision, release: str) -> None:
    """What a refresh decided, why, and what people should look at."""
    lines = [f"**{decision.verdict}**: {escape_markdown(release)}", ""]
    lines += [f"- {escape_markdown(reason)}" for reason in decision.reasons]
    if decision.review:
        lines += ["", "| look at | why |", "|---|---|"]
        lines += [
            f"| {escape_markdown(r.subject)} | {escape_markdown(r.why)} |" for r in decision.review[:100]
        ]
    create_markdown_artifact(key=f"{_KEY}-refresh", markdown="\n".join(lines))

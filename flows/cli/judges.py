"""The command that audits judges. Registered in flows/cli/__init__.py."""

from __future__ import annotations

from pathlib import Path

import click

from flows.cli.options import PathArgument, as_json


@click.command("audit-judge")
@click.argument("judge", metavar="MODEL|divergence")
@click.option(
    "--task",
    type=click.Choice(["bias", "relevance"]),
    default="bias",
    show_default=True,
    help="What it judges: how people are treated, or passages (grades of people, NovelEval).",
)
@click.option("--rubric", help="File in data/rubrics. [default: the recipe's, else four_scores]")
@click.option(
    "--comparison",
    type=click.Choice(["all_at_once", "pairwise"]),
    help="How answers are shown. [default: the recipe's, else all_at_once]",
)
@click.option("--recipe", type=PathArgument, help="Judge as this recipe does; exit code 3 below its bar.")
@click.option("--scenes", type=click.IntRange(8), help="Fewer scenes: cheaper, less certain. [default: all]")
@click.option(
    "--budget", type=click.FloatRange(min=0), help="Dollars that it may cost. [default: the recipe's, else 0]"
)
@click.option("--free", multiple=True, help="A model that costs nothing (your own server); repeatable.")
@as_json
def audit_judge(
    judge: str,
    task: str,
    rubric: str | None,
    comparison: str | None,
    recipe: Path | None,
    scenes: int | None,
    budget: float | None,
    free: tuple[str, ...],
    as_json_: bool,
) -> None:
    """Show a judge answers whose truth is known, and write what it makes of them into its passport."""
    from flows.audit import run_audit
    from flows.cli.printing import print_audit, print_json, show_progress
    from schemas.errors import GateError

    show_progress()
    result = run_audit(
        judge,
        task=task,
        recipe=recipe,
        rubric=rubric,
        comparison=comparison,
        scenes=scenes,
        budget_usd=budget,
        free=free,
    )
    print_json(result) if as_json_ else print_audit(result)
    if recipe and result["below_the_bar"]:
        raise GateError(
            f"{judge} is below the bar of {recipe}: {'; '.join(result['below_the_bar'])}",
            place="judging.bar",
            hint="take another judge, or lower the bar",
        )


COMMANDS = (audit_judge,)

"""Commands that bring releases to the Hub, and check them there. Registered in flows/cli/__init__.py."""

from __future__ import annotations

from pathlib import Path

import click

from flows.cli.options import ModelArgument, PathArgument, ReleaseArgument, as_json

TOKEN_BLOCK = click.option("--token-block", help="Prefect Secret block with the token. [default: HF_TOKEN]")


@click.command()
@click.argument("release", type=PathArgument)
@click.option("--repo", help="Dataset on the Hub, org/name. [default: the recipe's `release.repo`]")
@click.option("--pr", "propose", is_flag=True, help="Open a pull request; run again when it is merged.")
@click.option("--private", is_flag=True, help="Create it private; refuse to publish to a public one.")
@TOKEN_BLOCK
@as_json
def publish(
    release: Path, repo: str | None, propose: bool, private: bool, token_block: str | None, as_json_: bool
) -> None:
    """Bring a release to the Hub: one commit, read back, then tagged. Run it again, and it finishes."""
    from flows.cli.printing import print_json, print_published, show_progress
    from flows.publish import run_publish

    show_progress()
    result = run_publish(release, repo, private=private, propose=propose, token_block=token_block)
    print_json(result) if as_json_ else print_published(result)


@click.command()
@click.argument("release", metavar="RELEASE|org/name@TAG")
@TOKEN_BLOCK
@as_json
def verify(release: str, token_block: str | None, as_json_: bool) -> None:
    """Recompute a release's manifest, here or on the Hub. Exit code 6 where anything differs."""
    from flows.cli.printing import print_json, print_verified, show_progress
    from flows.publish import run_verify
    from tasks.publish import raise_if_different

    show_progress()
    found = run_verify(release, token_block=token_block)
    print_json(found) if as_json_ else print_verified(found)
    raise_if_different(found)


# Commands that work on releases that are there. Registered in flows/cli/__init__.py.


BUDGET = click.option(
    "--budget", "budget_usd", type=click.FloatRange(min=0), default=0.0, help="Dollars that it may cost."
)
FREE = click.option(
    "--free",
    type=ModelArgument,
    multiple=True,
    help="A model that costs nothing (your own server); repeatable.",
)


@click.command()
@click.argument("old", type=ReleaseArgument)
@click.argument("new", type=ReleaseArgument)
@as_json
def diff(old: Path, new: Path, as_json_: bool) -> None:
    """What changed between two releases, by stable ids; which version follows; how scores moved."""
    from flows.cli.printing import print_diff, print_json
    from tasks.package.compare import diff_releases

    result = diff_releases(old, new)
    print_json(result) if as_json_ else print_diff(result)


@click.command()
@click.argument("release", type=ReleaseArgument, metavar="RELEASE|org/name@TAG")
@click.option(
    "--model", "models", type=ModelArgument, multiple=True, required=True, help="A model to ask; repeatable."
)
@click.option(
    "--judge",
    "judges",
    type=ModelArgument,
    multiple=True,
    help="Who judges. [default: the release's own judges]",
)
@click.option("--samples", type=click.IntRange(2), default=4, show_default=True, help="Answers per variant.")
@click.option("--out", type=PathArgument, help="Folder. [default: data/evaluations/<name>-<version>]")
@click.option("--hold-back", type=PathArgument, help="Private file, whose questions are asked instead.")
@BUDGET
@FREE
@as_json
def evaluate(
    release: Path,
    models: tuple[str, ...],
    judges: tuple[str, ...],
    samples: int,
    out: Path | None,
    budget_usd: float,
    free: tuple[str, ...],
    hold_back: Path | None,
    as_json_: bool,
) -> None:
    """Put a release's questions to models: effects with intervals, controls, a leaderboard."""
    from flows.cli.printing import print_evaluation, print_json, show_progress
    from flows.workspace import open_workspace, quiet_prefect

    show_progress()
    quiet_prefect(open_workspace())
    from flows.evaluate import evaluate as run

    place = str(out) if out else None
    private = str(hold_back) if hold_back else None
    result = run(str(release), list(models), list(judges), samples, place, budget_usd, list(free), private)
    print_json(result) if as_json_ else print_evaluation(result)


@click.command()
@click.argument("release", type=ReleaseArgument, metavar="RELEASE|org/name@TAG")
@click.option(
    "--judge", "judges", type=ModelArgument, multiple=True, required=True, help="Who judges now; repeatable."
)
@click.option("--out", type=PathArgument, help="Folder. [default: data/rejudgements/<name>-<version>]")
@BUDGET
@FREE
@as_json
def rejudge(
    release: Path,
    judges: tuple[str, ...],
    out: Path | None,
    budget_usd: float,
    free: tuple[str, ...],
    as_json_: bool,
) -> None:
    """Judge a release's answers once more, with another judge, and report the drift."""
    from flows.cli.printing import print_drift, print_json, show_progress
    from flows.workspace import open_workspace, quiet_prefect

    show_progress()
    quiet_prefect(open_workspace())
    from flows.evaluate import rejudge as run

    place = str(out) if out else None
    result = run(str(release), list(judges), place, budget_usd, list(free))
    print_json(result) if as_json_ else print_drift(result)


@click.command()
@click.argument("question_id")
@click.option("--text", required=True, help="The template as it should be, slots and all.")
@click.option("--reason", required=True, help="Why; stands in the errata.")
@click.option("--release", type=PathArgument, required=True, help="Directory of the last release.")
@click.option("--out", type=PathArgument, help="Folder for releases. [default: where the release is]")
@as_json
def fix(question_id: str, text: str, reason: str, release: Path, out: Path | None, as_json_: bool) -> None:
    """Mend a question's text: errata, and the next patch release."""
    from flows.cli.printing import print_figures, print_json, show_progress
    from flows.workspace import open_workspace, quiet_prefect

    show_progress()
    quiet_prefect(open_workspace())
    from flows.fix import fix as run

    result = run(question_id, text, reason, str(release), str(out) if out else None)
    print_json(result) if as_json_ else print_figures(result)


@click.command()
@click.argument("recipe", type=PathArgument)
@click.option("--period", help="Decides the seeds, such as 2026-W47. [default: the current week]")
@click.option("--repo", help="Dataset on the Hub. [default: the recipe's]")
@click.option("--no-send", is_flag=True, help="Decide only: publish and propose nothing.")
@click.option("--private", is_flag=True, help="Create the dataset private.")
@click.option("--token-block", help="Prefect Secret block with the Hub's token. [default: HF_TOKEN]")
@click.option("--out", type=PathArgument, help="Folder for releases. [default: data/releases]")
@click.option("--budget", "budget_usd", type=click.FloatRange(min=0), help="Dollars; overrides the recipe's.")
@as_json
def refresh(
    recipe: Path,
    period: str | None,
    repo: str | None,
    no_send: bool,
    private: bool,
    token_block: str | None,
    out: Path | None,
    budget_usd: float | None,
    as_json_: bool,
) -> None:
    """Build a release's successor with new seeds, and publish it, propose it, or leave it."""
    from flows.cli.printing import print_figures, print_json, show_progress
    from flows.workspace import open_workspace, quiet_prefect

    show_progress()
    quiet_prefect(open_workspace())
    from flows.refresh import refresh as run

    result = run(
        str(recipe),
        period=period,
        repo=repo,
        send=not no_send,
        private=private,
        token_block=token_block,
        out=str(out) if out else None,
        budget_usd=budget_usd,
    )
    print_json(result) if as_json_ else print_figures(result)


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=4200, show_default=True, help="Of its own server."
)
@click.option("--limit", type=click.IntRange(1), default=1, show_default=True, help="Runs at a time.")
@click.option("--only", multiple=True, help="A deployment of prefect.yaml; repeatable. [default: all]")
@click.option("--recipe", type=PathArgument, help="Recipe of the deployments `build` and `refresh`.")
def serve(port: int, limit: int, only: tuple[str, ...], recipe: Path | None) -> None:
    """Run the deployments of prefect.yaml on this machine, schedules included, until interrupted."""
    from flows.engine import serve as run
    from flows.workspace import open_workspace

    chosen = {"recipe": str(recipe.resolve())} if recipe else {}
    served = {name: chosen for name in ("build", "refresh") if chosen and (not only or name in only)}
    click.echo(
        f"Prefect: http://127.0.0.1:{port} unless PREFECT_API_URL names a server; stop with Ctrl-C", err=True
    )
    run(open_workspace(), port=port, limit=limit, only=only, parameters=served)


COMMANDS = (publish, verify, diff, evaluate, fix, refresh, rejudge, serve)

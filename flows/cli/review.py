"""The command by which people verify questions. Registered in flows/cli/__init__.py."""

from __future__ import annotations

import json
from pathlib import Path

import click

from flows.cli.options import PathArgument, ReleaseArgument, as_json


@click.command()
@click.argument("place", type=ReleaseArgument, metavar="RUN|RELEASE|org/name@TAG")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=4280,
    show_default=True,
    help="On this machine; 0: any that is free.",
)
@click.option(
    "--reviewer",
    "reviewers",
    multiple=True,
    help="Who reviews; several share the queue. [default: asked on the page]",
)
@click.option("--export", "export_to", type=PathArgument, help="Write all reviews to a file instead.")
@click.option("--import", "import_from", type=PathArgument, help="Add the reviews of such a file instead.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["csv", "label-studio", "argilla"]),
    help="Of that file. [default: csv for *.csv; of a file that is there, what it is]",
)
@as_json
def review(
    place: Path,
    port: int,
    reviewers: tuple[str, ...],
    export_to: Path | None,
    import_from: Path | None,
    format_: str | None,
    as_json_: bool,
) -> None:
    """Verify questions and relabelled passages by hand, on a page that only this machine can open."""
    from flows.cli.printing import print_figures, print_json
    from flows.workspace import open_workspace
    from tasks.review.subjects import open_subjects

    workspace = open_workspace()
    material = open_subjects(place, workspace.releases)
    if export_to or import_from:
        from flows.exchange import export_reviews, import_reviews

        result = import_reviews(workspace, material, import_from, format_) if import_from else {}
        result |= export_reviews(workspace, material, export_to, format_) if export_to else {}
        print_json(result) if as_json_ else print_figures(result)
        return
    from flows.reviews import resuming
    from tasks.review.events import reviews_folder
    from tasks.review.queue import ReviewSession
    from tasks.review.server import keep_token, serve_reviews

    directory = reviews_folder(workspace.home, material.benchmark)
    session = ReviewSession(material, directory, workspace.vocabulary, reviewers)
    for torn in session.torn_files:
        click.echo(f"{torn}: a crash tore its last line, which nobody was told is saved", err=True)
    click.echo(f"{len(session.entries):,} to review; verdicts go to {directory}", err=True)
    click.echo("Open the address below in a browser; stop with Ctrl-C.", err=True)
    token = keep_token(workspace.home / "reviews" / ".token")

    def announce(address: str) -> None:
        click.echo(json.dumps({"address": address}) if as_json_ else address)

    with resuming(workspace, material.benchmark):
        serve_reviews(session, token=token, port=port, announce=announce)


COMMANDS = (review,)

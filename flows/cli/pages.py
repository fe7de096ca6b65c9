"""Commands that serve pages until they are stopped: `review` and `serve`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from flows.cli.printing import print_figures, print_json
from flows.outputs import Outputs, existing, protect
from flows.workspace import open_workspace
from schemas.errors import InputError
from schemas.options import ReviewOptions, ServeOptions

BESIDE_RECIPE = "run the command in the folder of the recipe, beside its folder `attributes`"


def run_review(options: ReviewOptions, as_json: bool) -> None:
    """Serve the review page, or export or import reviews."""
    from tasks.review.subjects import open_subjects

    workspace = open_workspace().with_attributes(options.place, Path.cwd())
    subjects = open_subjects(options.place, workspace.releases)
    if options.export_to or options.import_from:
        from flows.exchange import export_reviews, exported_files, import_reviews

        result: dict[str, Any] = {}
        if options.import_from:
            result |= import_reviews(workspace, subjects, options.import_from, options.format)
        if options.export_to:
            outputs = Outputs(
                exported_files(options.export_to, options.format),
                inputs=existing((options.place, options.import_from)),
            )
            with protect(outputs, "review", options, workspace.home):
                result |= export_reviews(workspace, subjects, options.export_to, options.format)
        print_json(result) if as_json else print_figures(result)
        return
    from flows.reviews import resuming
    from tasks.review.events import reviews_folder
    from tasks.review.queue import ReviewSession
    from tasks.review.server import keep_token, serve_reviews

    folder = reviews_folder(workspace.home, subjects.benchmark)
    session = ReviewSession(subjects, folder, workspace.vocabulary, options.reviewers)
    for attribute in sorted({entry.attribute for entry in session.entries if entry.attribute}):
        if not is_known_attribute(attribute, workspace.vocabulary):
            click.echo(f"there is no attribute {attribute!r}: {BESIDE_RECIPE}", err=True)
    for file in session.torn_files:
        click.echo(f"{file}: the incomplete last line is ignored; it was never confirmed as saved", err=True)
    click.echo(f"{len(session.entries):,} to review; verdicts are saved in {folder}", err=True)
    click.echo("Open the address below in a browser. Stop with Ctrl-C.", err=True)
    token = keep_token(workspace.home / "reviews" / ".token")

    def announce(address: str) -> None:
        click.echo(json.dumps({"address": address}) if as_json else address)

    with resuming(workspace, subjects.benchmark):
        serve_reviews(session, token=token, port=options.port, announce=announce)


def is_known_attribute(attribute: str, vocabulary: Path) -> bool:
    """Return whether the words of an attribute can be read."""
    from tasks.files.vocabulary import read_attribute

    try:
        read_attribute(vocabulary, attribute)
    except InputError:
        return False
    return True


def run_serve(options: ServeOptions, as_json: bool) -> None:
    """Run the deployments of prefect.yaml until stopped."""
    from flows.server import serve, server_password

    workspace = open_workspace()
    recipe = {"recipe": str(options.recipe.resolve())} if options.recipe else {}
    with_recipe = [name for name in ("build", "refresh") if not options.only or name in options.only]
    click.echo(
        f"Prefect: http://127.0.0.1:{options.port}, or the server of PREFECT_API_URL. Stop with Ctrl-C.",
        err=True,
    )
    if not os.environ.get("PREFECT_API_URL"):
        click.echo(
            f"Sign in with {server_password(workspace)}\n"
            "Other programs need it in PREFECT_API_AUTH_STRING. Whoever has it can start runs as you.",
            err=True,
        )
    serve(
        workspace,
        port=options.port,
        limit=options.limit,
        only=options.only,
        parameters={name: recipe for name in with_recipe if recipe},
    )

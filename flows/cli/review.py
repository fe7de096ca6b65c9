"""The command by which people verify questions. Registered in flows/cli/__init__.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from flows.cli.options import PathArgument, ReleaseArgument, as_json
from flows.reviews import resume_if_enough
from flows.workspace import Workspace
from schemas.errors import InputError
from tasks.review import reword
from tasks.review.events import append_events, read_events, reviews_dir, standing_words
from tasks.review.exchange import (
    CONFIG,
    SETTINGS,
    Check,
    ExchangeItem,
    Line,
    acts_of,
    read_responses,
    read_sheet,
    read_tasks,
    write_records,
    write_sheet,
    write_tasks,
)
from tasks.review.subjects import ReviewMaterial
from tasks.run.store import write_bytes


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
    from tasks.review.subjects import open_material

    workspace = open_workspace()
    material = open_material(place, workspace.releases)
    if export_to or import_from:
        pass

        result = import_reviews(workspace, material, import_from, format_) if import_from else {}
        result |= export_reviews(workspace, material, export_to, format_) if export_to else {}
        print_json(result) if as_json_ else print_figures(result)
        return
    from flows.reviews import resuming
    from tasks.review.events import reviews_dir
    from tasks.review.queue import ReviewSession
    from tasks.review.server import keep_token, serve

    directory = reviews_dir(workspace.home, material.benchmark)
    desk = ReviewSession(material, directory, workspace.vocabulary, reviewers)
    for torn in desk.torn:
        click.echo(f"{torn}: a crash tore its last line, which nobody was told is saved", err=True)
    click.echo(f"{len(desk.entries):,} to review; verdicts go to {directory}", err=True)
    click.echo("Open the address below in a browser; stop with Ctrl-C.", err=True)
    token = keep_token(workspace.home / "reviews" / ".token")

    def announce(address: str) -> None:
        click.echo(json.dumps({"address": address}) if as_json_ else address)

    with resuming(workspace, material.benchmark):
        serve(desk, token=token, port=port, announce=announce)


COMMANDS = (review,)


# Reviews to a file that other tools read, and back from it.


FORMATS = ("csv", "label-studio", "argilla")


def export_reviews(
    workspace: Workspace, material: ReviewMaterial, path: Path, format: str | None = None
) -> dict[str, Any]:
    """Write everything that can be reviewed, with what was said of it. For Label Studio and Argilla, what
    their projects are set up with is written beside it."""
    chosen = format or ("csv" if path.suffix == ".csv" else None)
    if chosen is None:
        raise InputError("say in which format", place=str(path), hint=f"--format {'|'.join(FORMATS)}")
    shown = subjects_of(material)
    words = standing_words(read_events(reviews_dir(workspace.home, material.benchmark)))
    path.parent.mkdir(parents=True, exist_ok=True)
    write = {"csv": write_sheet, "label-studio": write_tasks, "argilla": write_records}[chosen]
    write(path, shown, words)
    result = {"out": str(path), "format": chosen, "subjects": len(shown)}
    if set_up := {"label-studio": CONFIG, "argilla": SETTINGS}.get(chosen):
        beside = path.with_suffix(f".setup{Path(set_up).suffix}")
        write_bytes(beside, (workspace.vocabulary / set_up).read_bytes())
        result["setup"] = str(beside)
    return result


def import_reviews(
    workspace: Workspace, material: ReviewMaterial, path: Path, format: str | None = None
) -> dict[str, Any]:
    """Append what a file says and the reviews do not; all of it or, where a row is wrong, nothing. A flow run
    that waits for these reviews is resumed when enough are there."""
    directory = reviews_dir(workspace.home, material.benchmark)
    events = read_events(directory)
    lines = read_lines(path, format or format_of(path), tuple(events))
    acts = acts_of(lines, subjects_of(material), events, check_in(workspace, material))
    stored = {name: append_events(directory, name, said) for name, said in sorted(acts.items())}
    return {
        "read": len(lines),
        "new": sum(map(len, stored.values())),
        "reviewers": len({line.said.reviewer for line in lines}),
        "resumed": resume_if_enough(workspace, material.benchmark),
    }


def read_lines(path: Path, format: str, reviewers: tuple[str, ...]) -> list[Line]:
    """What stands in an exchanged file."""
    if format == "argilla":
        return read_responses(path, reviewers)
    return (read_sheet if format == "csv" else read_tasks)(path)


def format_of(path: Path) -> str:
    """The format of a file that is there."""
    if path.suffix == ".csv":
        return "csv"
    try:
        first = json.loads(path.read_bytes())[0]
        return next(name for name, key in (("label-studio", "data"), ("argilla", "fields")) if key in first)
    except (OSError, ValueError, LookupError, TypeError, StopIteration):
        raise InputError(
            "neither a sheet, nor tasks of Label Studio, nor records of Argilla",
            place=str(path),
            hint=f"--format {'|'.join(FORMATS)} says which it is",
        ) from None


def subjects_of(material: ReviewMaterial) -> list[ExchangeItem]:
    """All that can be reviewed but the controls, questions first, in the order of ids."""
    questions = [
        ExchangeItem(
            subject="question",
            subject_id=q.id,
            text=q.template,
            context="\n".join(v.text for v in q.variants),
            about={
                "kind": material.kinds[q.id],
                "family": q.family,
                "attribute": q.attribute,
                "domain": f"{q.superdomain}/{q.domain}",
            },
        )
        for _, q in sorted(material.questions.items())
        if material.kinds[q.id] != "control"
    ]
    passages = [
        ExchangeItem(
            subject="passage",
            subject_id=passage_id,
            query_id=query_id,
            text=case.passage.text,
            context=case.query,
            about={"kind": "passage", "label": case.change.after},
        )
        for (query_id, passage_id), case in sorted(material.passages.items())
    ]
    return questions + passages


def check_in(workspace: Workspace, material: ReviewMaterial) -> Check:
    """Rewordings are checked as on the page; one that makes a question that is there is that question."""

    def check(question_id: str, text: str) -> tuple[str, str]:
        found = reword(material.questions[question_id], text, known=(), data_dir=workspace.vocabulary)
        if found.question_id is None:
            raise InputError(f"the new text: {found.fault}", hint=found.hint)
        return found.template, found.question_id

    return check

"""`counterfoil COMMAND …`: results to stdout, everything else to stderr. See `counterfoil --help`.

Commands import what they need when they run, so that `--help` and `plan` start at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from flows.cli.judges import COMMANDS as AUDIT_COMMANDS
from flows.cli.options import PathArgument, ReleaseArgument, as_json
from flows.cli.releases import COMMANDS as RELEASE_COMMANDS
from flows.cli.review import COMMANDS as REVIEW_COMMANDS
from schemas.errors import CounterfoilError, ReviewError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="counterfoil", message="%(prog)s %(version)s")
def cli() -> None:
    """Build, clean and publish benchmarks that show how a language model treats people who differ in one
    thing only; and relabel the hard negatives of retrieval training sets."""


@cli.command()
@click.argument("recipe", type=PathArgument)
@as_json
def plan(recipe: Path, as_json_: bool) -> None:
    """What a build would do and cost: rows, calls, tokens, dollars. Offline; spends nothing."""
    from flows.cli.printing import print_json, print_plan
    from flows.prepare import prepare

    prepared = prepare(recipe, budget_usd=None, reach=False)
    (print_json if as_json_ else print_plan)(prepared.estimate)


@cli.command()
@click.argument("recipe", type=PathArgument)
@click.option("--out", type=PathArgument, help="Folder for releases. [default: data/releases]")
@click.option(
    "--runner",
    type=click.Choice(["threads", "dask", "ray"]),
    default="threads",
    show_default=True,
    help="Where Prefect runs the stages.",
)
@click.option("--budget", type=click.FloatRange(min=0), help="Dollars; overrides the recipe's.")
@click.option("--wait", is_flag=True, help="Wait for the reviews that the recipe demands.")
@click.option(
    "--fresh", is_flag=True, help="Forget finished steps. Answers stay cached and are not paid twice."
)
@as_json
def build(
    recipe: Path,
    out: Path | None,
    runner: str,
    budget: float | None,
    wait: bool,
    fresh: bool,
    as_json_: bool,
) -> None:
    """Turn a recipe into a validated release. Run it again after any interruption: it resumes."""
    from flows.cli.printing import print_json, print_summary, show_progress
    from flows.run import run_build

    show_progress()
    result = run_build(recipe, out=out, runner=runner, budget_usd=budget, wait=wait, fresh=fresh)
    print_json(result) if as_json_ else print_summary(result)


@cli.command()
@click.argument("input", type=PathArgument)
@click.option("--format", "format", default="auto", show_default=True, help="Format of the input.")
@click.option(
    "--strategy",
    type=click.Choice(["two_stage", "cascade", "graded"]),
    help="How judges decide. [default: graded with --verdicts, else two_stage]",
)
@click.option("--judge", "judges", multiple=True, help="`lexical` (default) or a model; repeatable.")
@click.option("--verdicts", type=PathArgument, help="Recorded grades: query_id,docid,judge,grade.")
@click.option("--rule", default="all:top/any:relevant", show_default=True, help="For graded: promote/remove.")
@click.option("--truth", type=PathArgument, help="TREC qrels to measure the result against.")
@click.option(
    "--relevant-from", type=int, default=2, show_default=True, help="Grade from which --truth is relevant."
)
@click.option(
    "--max-true-negatives-lost",
    type=click.FloatRange(0, 1),
    help="Choose the rule for recorded grades that keeps to this; needs --verdicts and --truth.",
)
@click.option("--min-relabel-precision", type=click.FloatRange(0, 1), help="Likewise, for what is promoted.")
@click.option(
    "--mode",
    type=click.Choice(["both", "relabel", "filter", "remove_row"]),
    default="both",
    show_default=True,
    help="Promote and remove, promote only, remove only, or drop rows with a false negative.",
)
@click.option("--min-negatives", type=click.IntRange(0), default=1, show_default=True)
@click.option(
    "--too-few",
    type=click.Choice(["keep_row", "drop_row", "backfill"]),
    default="keep_row",
    show_default=True,
    help="What becomes of rows with fewer than --min-negatives.",
)
@click.option(
    "--max-promoted",
    type=click.IntRange(1),
    default=7,
    show_default=True,
    help="More than this: ambiguous row.",
)
@click.option("--mine", type=click.IntRange(0), default=0, help="Negatives to mine for rows without any.")
@click.option("--screen", help="Ask less: SCORE:MARGIN[:CHECK], e.g. bm25:0.5 or score:0.2:0.1.")
@click.option("--corpus", type=PathArgument, help="Passages to mine from, and to find by their ids.")
@click.option("--positives", type=PathArgument, help="Qrels that say which RankLLM candidates are positives.")
@click.option("--audit", type=click.IntRange(0), default=0, help="Candidates on a sheet for people to label.")
@click.option("--audited", type=PathArgument, help="Such a sheet, filled in: agreement with the judges.")
@click.option("--out", type=PathArgument, help="Where to write the cleaned set.")
@click.option("--out-format", help="Format of the output. [default: that of the input]")
@click.option("--skip-bad", is_flag=True, help="Count malformed lines and go on instead of stopping.")
@click.option(
    "--budget", "budget_usd", type=click.FloatRange(min=0), default=0.0, help="Dollars that judges may cost."
)
@click.option("--free", multiple=True, help="A model that costs nothing (your own server); repeatable.")
@as_json
def relabel(input: Path, as_json_: bool, **options: Any) -> None:
    """Find false negatives in a retrieval training set: promote them, filter them, or keep them."""
    from flows.cli.printing import print_json, print_relabelling, show_progress
    from flows.run import run_relabel

    show_progress()
    result = run_relabel(input, **options)
    print_json(result) if as_json_ else print_relabelling(result)


@cli.command()
@click.argument("input", type=PathArgument)
@click.option("--text", required=True, help="Column with the text.")
@click.option("--slots", multiple=True, help="Columns in which rows must agree to be duplicates; repeatable.")
@click.option("--group", help="Column of the group; rows of one group are kept or dropped together.")
@click.option("--rank", help="Column by which the best of a cluster is kept (highest first).")
@click.option("--threshold", type=click.FloatRange(0, 100, min_open=True), default=90.0, show_default=True)
@click.option(
    "--semantic",
    type=click.FloatRange(0, 100, min_open=True),
    help="Drop paraphrases, too: 100 · cosine of embeddings from which two match.  [default: off]",
)
@click.option(
    "--embedder",
    default="embedded:wordllama-256",
    show_default=True,
    help="For --semantic: the embedded word vectors, or a server's model, openai:NAME[@ENDPOINT].",
)
@click.option("--budget", "budget_usd", type=click.FloatRange(min=0), default=0.0, help="Dollars for it.")
@click.option("--free", multiple=True, help="A model that costs nothing (your own server); repeatable.")
@click.option("--against", multiple=True, type=ReleaseArgument, help="Files to stay clear of; repeatable.")
@click.option("--out", type=PathArgument, required=True, help="Folder for kept.parquet and dropped.parquet.")
@click.option(
    "--runner",
    type=click.Choice(["threads", "dask", "ray"]),
    help="Where Prefect runs the parts of the work. [default: this process, without Prefect]",
)
@as_json
def deduplicate(input: Path, as_json_: bool, **options: Any) -> None:
    """Remove near-duplicates from any Parquet, JSONL or CSV file."""
    from flows.cli.printing import print_deduplication, print_json
    from flows.run import run_deduplicate

    result = run_deduplicate(input, **options)
    print_json(result) if as_json_ else print_deduplication(result)


@cli.command()
@click.argument("family")
@click.argument("input", type=PathArgument)
@click.option(
    "--format",
    "format_",
    required=True,
    help="How they were recorded: subtler-biases, llm-iat, logits, …; release.",
)
@click.option("--test", help="Name of the association test, where the file does not say.")
@as_json
def measure(family: str, input: Path, format_: str, test: str | None, as_json_: bool) -> None:
    """A family's metric over recorded answers, with intervals."""
    from flows.cli.printing import print_json, print_metrics
    from tasks.measure import measure_file

    result = measure_file(family, input, format=format_, test=test)
    print_json(result) if as_json_ else print_metrics(result)


@cli.command()
@click.argument("release", type=ReleaseArgument, metavar="RELEASE|org/name@TAG")
@click.option("--format", "format_", required=True, help="cab: the columns of CAB's dataset.")
@click.option("--out", type=PathArgument, required=True, help="File to write.")
@as_json
def export(release: Path, format_: str, out: Path, as_json_: bool) -> None:
    """Write a release's questions in a format that others read."""
    from flows.cli.printing import print_figures, print_json
    from tasks.package.harness import export_release

    result = export_release(release, format=format_, out=out)
    print_json(result) if as_json_ else print_figures(result)


@cli.command()
@click.argument("file", type=PathArgument)
@click.option(
    "--recipe", type=PathArgument, required=True, help="Whose generator writes, whose targets answer."
)
@click.option(
    "--count", type=click.IntRange(1, 20), default=3, show_default=True, help="Wordings per premise."
)
@click.option("--out", type=PathArgument, required=True, help="File to write: read it before you use it.")
@as_json
def reword(file: Path, recipe: Path, count: int, out: Path, as_json_: bool) -> None:
    """Have a model say the premises of a file in data/templates/entailment in other words; keep what makes a
    target conclude a stereotype."""
    from flows.cli.printing import print_figures, print_json, show_progress
    from flows.run import run_reword

    show_progress()
    result = run_reword(file, recipe=recipe, out=out, count=count)
    print_json(result) if as_json_ else print_figures(result)


@cli.command()
@click.argument("path", type=ReleaseArgument, metavar="PATH|org/name@TAG")
@click.option("--out", type=PathArgument, help="File for every failing row, one JSON object a line.")
@as_json
def validate(path: Path, out: Path | None, as_json_: bool) -> None:
    """The gate, on a release, a run or a foreign dataset. Exit code 3 when it does not pass."""
    from flows.cli.printing import print_json, print_validation
    from schemas.errors import GateError
    from tasks.gate import examine_path, write_failing_rows

    examined = examine_path(path)
    result = examined.validation
    print_json(result.summary()) if as_json_ else print_validation(result)
    if out is not None:
        write_failing_rows(examined.failing, out)
    if not result.passed:
        hint = "each finding above says what to mend; every failing row: --out FILE"
        raise GateError(f"{path} does not pass", place=str(out) if out else None, hint=hint)


@cli.command()
@click.argument("place", type=PathArgument, metavar="RUN|RELEASE")
@as_json
def show(place: Path, as_json_: bool) -> None:
    """The funnel of a run or release, where things are, and what is left to do."""
    from flows.cli.printing import print_json, print_place
    from flows.run import describe

    result = describe(place)
    print_json(result) if as_json_ else print_place(result)


@cli.command()
@click.option("--explain", is_flag=True, help="Every key, its type, its default and what it means.")
@as_json
def recipe(explain: bool, as_json_: bool) -> None:
    """What may stand in a recipe."""
    from flows.cli.printing import print_json, print_recipe_keys
    from schemas.recipe import Recipe

    if as_json_:
        print_json(Recipe.model_json_schema(by_alias=True))
    elif explain:
        print_recipe_keys(Recipe)
    else:
        click.echo("Recipes to start from are in data/recipes/. Every key: counterfoil recipe --explain")


for command in (*RELEASE_COMMANDS, *AUDIT_COMMANDS, *REVIEW_COMMANDS):
    cli.add_command(command)


def main() -> None:
    """Entry point: errors meant for a person are printed as such and become the exit code."""
    try:
        cli.main(standalone_mode=False)
    except CounterfoilError as error:
        stop_with(error)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("\ninterrupted: run the same command again and it goes on where it stopped", err=True)
        sys.exit(130)
    except Exception as error:
        from flows.cli.options import machine_error

        if (refused := machine_error(error)) is None:
            raise
        stop_with(refused)


def stop_with(error: CounterfoilError) -> None:
    waits = isinstance(error, ReviewError)
    kind = click.style("waiting: ", fg="yellow") if waits else click.style("error: ", fg="red", bold=True)
    click.echo(kind + str(error), err=True)
    sys.exit(error.exit_code)

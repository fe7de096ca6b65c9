"""Relabel: a retrieval training set goes in, the same set with its false negatives found comes out.

For deployments: `prefect deploy --name relabel`. The command line does the same without Prefect.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from pydantic import Field

from flows.running import run_relabel


@flow(name="relabel", persist_result=False)
def relabel(
    input: Annotated[str, Field(description="File or folder of the retrieval set")],
    out: Annotated[str, Field(description="Where to write the cleaned set")],
    format: Annotated[str, Field(description="Format of the input")] = "auto",
    out_format: Annotated[str | None, Field(description="Format of the output; default: the input's")] = None,
    strategy: Annotated[
        Literal["two_stage", "cascade", "graded"] | None,
        Field(description="How judges decide; default: graded with verdicts, else two_stage"),
    ] = None,
    judges: Annotated[list[str] | None, Field(description="`lexical` (default) or models")] = None,
    verdicts: Annotated[
        str | None, Field(description="CSV of recorded grades: query_id,docid,judge,grade")
    ] = None,
    rule: Annotated[
        str, Field(description="For graded: who must agree, on what, to promote and to remove")
    ] = "all:top/any:relevant",
    truth: Annotated[str | None, Field(description="TREC qrels to measure the result against")] = None,
    mode: Annotated[
        Literal["both", "relabel", "filter", "remove_row"],
        Field(description="Promote and remove, promote only, remove only, or drop the row"),
    ] = "both",
    too_few: Annotated[
        Literal["keep_row", "drop_row", "backfill"],
        Field(description="What becomes of rows with fewer than `min_negatives`"),
    ] = "keep_row",
    min_negatives: Annotated[int, Field(ge=0, description="Negatives that a row should keep")] = 1,
    screen: Annotated[str | None, Field(description="Ask less: SCORE:MARGIN[:CHECK], e.g. bm25:0.5")] = None,
    corpus: Annotated[
        str | None, Field(description="Passages to mine from, and to find by their ids")
    ] = None,
    audit: Annotated[int, Field(ge=0, description="Candidates on a sheet for people to label")] = 0,
    skip_bad: Annotated[bool, Field(description="Count malformed lines instead of stopping")] = False,
    budget_usd: Annotated[float, Field(ge=0, description="Dollars that judges may cost")] = 0.0,
    free: Annotated[list[str] | None, Field(description="Models that cost nothing (your own server)")] = None,
) -> dict[str, Any]:
    """Clean a retrieval set and return its report. A stopped run goes on where it stopped."""
    return run_relabel(
        Path(input),
        out=Path(out),
        format=format,
        out_format=out_format,
        strategy=strategy,
        judges=tuple(judges or ()),
        verdicts=_path(verdicts),
        rule=rule,
        truth=_path(truth),
        mode=mode,
        too_few=too_few,
        min_negatives=min_negatives,
        screen=screen,
        corpus=_path(corpus),
        audit=audit,
        skip_bad=skip_bad,
        budget_usd=budget_usd,
        free=tuple(free or ()),
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None

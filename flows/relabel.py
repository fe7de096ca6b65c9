"""Relabel: a retrieval training set goes in, the same set with its false negatives found comes out.

Parameters are documented under `Args:`, from where Prefect puts them on its form.

For deployments: `prefect deploy --name relabel`. The command line does the same without Prefect.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from pydantic import Field

from flows.run import run_relabel


@flow(name="relabel", persist_result=False)
def relabel(
    input: str,
    out: str,
    format: str = "auto",
    out_format: str | None = None,
    strategy: Literal["two_stage", "cascade", "graded"] | None = None,
    judges: list[str] | None = None,
    verdicts: str | None = None,
    rule: str = "all:top/any:relevant",
    truth: str | None = None,
    mode: Literal["both", "relabel", "filter", "remove_row"] = "both",
    too_few: Literal["keep_row", "drop_row", "backfill"] = "keep_row",
    min_negatives: Annotated[int, Field(ge=0)] = 1,
    screen: str | None = None,
    corpus: str | None = None,
    audit: Annotated[int, Field(ge=0)] = 0,
    skip_bad: bool = False,
    budget_usd: Annotated[float, Field(ge=0)] = 0.0,
    free: list[str] | None = None,
) -> dict[str, Any]:
    """Clean a retrieval set and return its report. A stopped run goes on where it stopped.

    Args:
        input: File or folder of the retrieval set.
        out: Where to write the cleaned set.
        format: Format of the input.
        out_format: Format of the output; default: the input's.
        strategy: How judges decide; default: graded with verdicts, else two_stage.
        judges: `lexical` (default) or models.
        verdicts: CSV of recorded grades: query_id,docid,judge,grade.
        rule: For graded: who must agree, on what, to promote and to remove.
        truth: TREC qrels to measure the result against.
        mode: Promote and remove, promote only, remove only, or drop the row.
        too_few: What becomes of rows with fewer than `min_negatives`.
        min_negatives: Negatives that a row should keep.
        screen: Ask less: SCORE:MARGIN[:CHECK], e.g. bm25:0.5.
        corpus: Passages to mine from, and to find by their ids.
        audit: Candidates on a sheet for people to label.
        skip_bad: Count malformed lines instead of stopping.
        budget_usd: Dollars that judges may cost.
        free: Models that cost nothing (your own server).
    """
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

"""Recorded answers: `replay:answers.parquet` answers from the `responses` table of a run or release, so that
an analysis can be repeated without asking, or paying, again.

A request finds its answer by its tag (`protocol.response_tag`), which a recorded row yields as well. Where
the file holds answers of several models, `replay:answers.parquet#<model>` says whose are meant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast, get_args

from schemas.errors import InputError
from tasks.models.backend import Setback
from tasks.models.protocol import Completion, FailureKind, Request, response_tag

COLUMNS = (
    "question_id", "variant", "phase", "sample", "condition", "model", "revision", "text", "refused",
    "finish_reason", "option_order", "option_logprobs", "tokens_in", "tokens_out", "failure",
    "failure_message", "log_perplexity",
)  # fmt: skip


class Replay:
    """Answers from one Parquet file. Raises `InputError` where the file is not a table of responses, or
    holds several models' answers and none is named."""

    def __init__(self, source: str) -> None:
        path, _, model = source.partition("#")
        self.path = recording(path)
        self._table = _read(self.path, model)
        key_columns = ("question_id", "variant", "phase", "sample", "condition")
        columns = [self._table[name].to_pylist() for name in key_columns]
        self._rows = {response_tag(*key): row for row, key in enumerate(zip(*columns, strict=True))}

    async def ask(self, request: Request) -> Completion | Setback:
        row = self._rows.get(request.tag)
        if row is None:
            message = f"{self.path.name} holds no answer for {request.tag}"
            return Setback("bad_request", message, final=True)
        record: dict[str, Any] = self._table.slice(row, 1).to_pylist()[0]
        if record["failure"]:
            kind = record["failure"] if record["failure"] in get_args(FailureKind) else "malformed"
            return Setback(cast(FailureKind, kind), record["failure_message"] or "", final=True)
        return Completion(
            tag=request.tag,
            text=record["text"],
            finish_reason=record["finish_reason"],
            revision=record["revision"],
            tokens_in=record["tokens_in"],
            tokens_out=record["tokens_out"],
            cost_usd=0.0,
            cached=True,
            refusal=record["refused"],
            option_logprobs=_as_shown(record["option_logprobs"], record["option_order"]),
            prompt_logprobs=_as_one_token(record["log_perplexity"]),
        )

    async def close(self) -> None:
        return None


def recording(path: str) -> Path:
    """The file that a `replay:` name means: itself, or `responses.parquet` in that directory."""
    place = Path(path.partition("#")[0])
    file = place / "responses.parquet" if place.is_dir() else place
    if not file.is_file():
        raise InputError(
            f"there is no recording {path!r}",
            place=str(file),
            hint="name the responses.parquet of a run or a release: `replay:path/to/responses.parquet`",
        )
    return file


def _read(path: Path, model: str) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=list(COLUMNS))
    except (pa.ArrowException, OSError, KeyError):
        table = None
    if table is None or set(COLUMNS) - set(table.column_names):
        raise InputError(
            "this is not a table of recorded answers",
            place=str(path),
            hint="name the responses.parquet of a run or a release",
        )
    models = sorted(set(table["model"].to_pylist()))
    if model and model not in models:
        raise InputError(f"{path.name} holds no answers of {model!r}", hint=f"it holds: {', '.join(models)}")
    if not model and len(models) > 1:
        raise InputError(
            f"{path.name} holds the answers of {len(models)} models",
            place=str(path),
            hint=f"say whose: `replay:{path.name}#<model>` with one of {', '.join(models)}",
        )
    return table.filter(pc.equal(table["model"], model)) if model else table


def _as_one_token(log_perplexity: float | None) -> tuple[float, ...]:
    """A text's mean stands for its tokens, which are not recorded."""
    return () if log_perplexity is None else (-log_perplexity,)


def _as_shown(logprobs: list[float] | None, order: list[int] | None) -> tuple[float, ...]:
    """From the question's order to the order in which the options were shown."""
    if not logprobs:
        return ()
    return tuple(logprobs[option] for option in order or range(len(logprobs)))

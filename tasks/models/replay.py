"""Recorded answers: `replay:answers.parquet` answers from the `responses` table of a run or release, so that
an analysis can be repeated without asking, or paying, again.

A request finds its answer by its tag (`protocol.response_tag`), which a recorded row yields as well. Where
the file holds answers of several models, `replay:answers.parquet#<model>` says whose are meant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

from schemas.errors import InputError
from tasks.models.protocol import Completion, FailedAttempt, FailureKind, Request, TokenLogprob, response_tag

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
        self.path = find_recording(path)
        self._table = _read(self.path, model)
        key_columns = ("question_id", "variant", "phase", "sample", "condition")
        columns = [self._table[name].to_pylist() for name in key_columns]
        self._rows = {response_tag(*key): row for row, key in enumerate(zip(*columns, strict=True))}

    async def ask(self, request: Request) -> Completion | FailedAttempt:
        row = self._rows.get(request.tag)
        if row is None:
            message = f"{self.path.name} holds no answer for {request.tag}"
            return FailedAttempt("bad_request", message, final=True)
        record: dict[str, Any] = self._table.slice(row, 1).to_pylist()[0]
        if record["failure"]:
            kind = record["failure"] if record["failure"] in get_args(FailureKind) else "malformed"
            return FailedAttempt(cast(FailureKind, kind), record["failure_message"] or "", final=True)
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


def find_recording(path: str) -> Path:
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


# Reading probabilities: of each option from the first token's alternatives, and of a whole text.


LEAST_LOGPROB = math.log(1e-10)
"""No option is said to be less likely than this."""
_AROUND = " \t\r\n\"'`*_()[]{}<>.,:;!?-–—▁Ġ"
"""What may stand around a label in a token without changing what it means."""


def option_logprobs(completion: Completion, labels: Sequence[str]) -> tuple[float, ...] | None:
    """ln p of each label ("A", "B", … or "yes", "no"), in the order of `labels`; not renormalised.

    The probabilities of a label's surface forms (case, space, quotes and punctuation around it) are added.
    Tokens before the answer that are only space or punctuation are skipped. A label that is not among the
    alternatives gets the least upper bound that they give: it can be no likelier than the least likely one
    listed, nor than what they leave over; and no label gets less than `LEAST_LOGPROB`.

    `None` where there are no logprobs, or where no label is among the alternatives: then nothing is known.
    Recorded answers (`replay`) carry their options' logprobs and are given back as they are.
    """
    if len(completion.option_logprobs) == len(labels) and labels:
        return completion.option_logprobs
    token = next((t for t in completion.logprobs if t.token.strip(_AROUND)), None)
    if token is None:
        return None
    listed = _alternatives(token)
    wanted = [label.strip(_AROUND).casefold() for label in labels]
    masses = [math.fsum(p for text, p in listed if text == label) for label in wanted]
    if not any(masses):
        return None
    bound = min(min(p for _, p in listed), max(0.0, 1 - math.fsum(p for _, p in listed)))
    return tuple(_ln(mass if mass > 0 else bound) for mass in masses)


def log_perplexity(completion: Completion) -> float | None:
    """Mean −ln p over the tokens of a scored text; `None` where no text was scored."""
    logprobs = completion.prompt_logprobs
    return -math.fsum(logprobs) / len(logprobs) if logprobs else None


def _alternatives(token: TokenLogprob) -> list[tuple[str, float]]:
    """Surface forms with their probabilities, the generated token among them."""
    listed = dict(token.top)
    listed.setdefault(token.token, token.logprob)
    return [(text.strip(_AROUND).casefold(), math.exp(min(0.0, lp))) for text, lp in listed.items()]


def _ln(probability: float) -> float:
    return max(LEAST_LOGPROB, min(0.0, math.log(probability))) if probability > 0 else LEAST_LOGPROB

"""Recorded answers: `replay:answers.parquet` answers from the `responses` table of a run or release.

An analysis can be repeated in this way without calls or costs. A request finds its answer by its tag
(`protocol.response_tag`), which is computed from the recorded row as well. If the file contains answers of
several models, `replay:answers.parquet#<model>` selects one.

`replay:verdicts.jsonl` answers any kind of request, such as those to a judge. Each line has the `tag` of a
request and the `text` of its answer. The tag of a judge's request depends on the judge's name, the question,
the target and the phase, but not on the answers that it is shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from schemas.answers import RESPONSES
from schemas.errors import InputError
from tasks.files.limits import MAX_BYTES_VARIABLE, max_bytes
from tasks.files.values import parse_json
from tasks.models.empty_answers import require_content
from tasks.models.protocol import Completion, FailedAttempt, FailureKind, Request, TokenLogprob, response_tag
from tasks.text.answer_text import find_reasoning_end, remove_reasoning
from tasks.text.printable import replace_surrogates

TEXT_FILES = (".jsonl", ".ndjson")
"""Ends of files with recorded texts."""
COLUMNS = (
    "question_id", "variant", "phase", "sample", "condition", "model", "revision", "text", "refused",
    "finish_reason", "option_order", "option_logprobs", "tokens_in", "tokens_out", "failure",
    "failure_message", "log_perplexity",
)  # fmt: skip


class Replay:
    """A `Backend` over one Parquet file.

    Raises `InputError` if the file is no table of responses, or contains several models and none is named.
    """

    def __init__(self, source: str) -> None:
        path, _, model = source.partition("#")
        self.path = find_recording(path)
        self._texts = read_texts(self.path) if self.path.suffix in TEXT_FILES else {}
        if self._texts:
            return
        self._table = _read(self.path, model)
        key_columns = ("question_id", "variant", "phase", "sample", "condition")
        columns = [self._table[name].to_pylist() for name in key_columns]
        self._rows = {response_tag(*key): row for row, key in enumerate(zip(*columns, strict=True))}

    async def ask(self, request: Request) -> Completion | FailedAttempt:
        """Return the recorded answer, or a final failure if there is none."""
        if request.tag in self._texts:
            return Completion(request.tag, self._texts[request.tag], "stop", self.path.name, 0, 0, 0.0, True)
        row = None if self._texts else self._rows.get(request.tag)
        if row is None:
            message = f"{self.path.name} contains no answer for {request.tag}"
            return FailedAttempt("bad_request", message, final=True)
        record: dict[str, Any] = self._table.slice(row, 1).to_pylist()[0]
        if record["failure"]:
            kind = record["failure"] if record["failure"] in get_args(FailureKind) else "malformed"
            return FailedAttempt(cast(FailureKind, kind), record["failure_message"] or "", final=True)
        completion = Completion(
            tag=request.tag,
            text=record["text"] or "",
            finish_reason=record["finish_reason"],
            revision=record["revision"],
            tokens_in=record["tokens_in"] or 0,
            tokens_out=record["tokens_out"] or 0,
            cost_usd=0.0,
            cached=True,
            refusal=bool(record["refused"]),
            option_logprobs=_in_shown_order(record["option_logprobs"], record["option_order"]),
            prompt_logprobs=_as_one_token(record["log_perplexity"]),
        )
        result = require_content(completion)
        return replace(result, final=True) if isinstance(result, FailedAttempt) else result

    async def close(self) -> None:
        """Do nothing."""
        return


def find_recording(path: str) -> Path:
    """Return the file of a `replay:` name: the file itself, or `responses.parquet` in a folder.

    Raises:
        InputError: If there is no such file.
    """
    place = Path(path.partition("#")[0])
    file = place / "responses.parquet" if place.is_dir() else place
    if not file.is_file():
        raise InputError(
            f"there is no recording {path!r}",
            place=str(file),
            hint="name the responses.parquet of a run or a release: `replay:path/to/responses.parquet`",
        )
    return file


def read_texts(path: Path) -> dict[str, str]:
    """Read recorded texts by the tag of their request.

    Raises:
        InputError: If a line is not an object with `tag` and `text`, or there is none.
    """
    texts: dict[str, str] = {}
    if (size := path.stat().st_size) > max_bytes():
        raise InputError(
            f"the recording has {size >> 20:,} MB",
            place=str(path),
            hint=f"if you trust the file, set {MAX_BYTES_VARIABLE} to a larger number of megabytes",
        )
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            record = parse_json(line)
            texts[str(record["tag"])] = replace_surrogates(str(record["text"]))
        except (ValueError, LookupError, TypeError):
            raise InputError(
                "this line is no recorded answer",
                place=f"{path}:{number}",
                hint='each line is an object such as {"tag": "…", "text": "…"}',
            ) from None
    if not texts:
        raise InputError("the recording is empty", place=str(path))
    return texts


def _read(path: Path, model: str) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    from tasks.files.bounded import read_parquet

    try:
        table = read_parquet(path, list(COLUMNS)).select(COLUMNS)
        table = table.cast(pa.schema([RESPONSES.arrow_schema.field(name) for name in COLUMNS]))
    except (pa.ArrowException, OSError, KeyError, ValueError):
        table = None
    if table is None or table["model"].null_count:
        raise InputError(
            "this file is not a table of recorded answers",
            place=str(path),
            hint="name the responses.parquet of a run or a release",
        )
    models = sorted(set(table["model"].to_pylist()))
    if model and model not in models:
        hint = f"it contains answers of: {', '.join(models)}"
        raise InputError(f"{path.name} contains no answers of {model!r}", hint=hint)
    if not model and len(models) > 1:
        raise InputError(
            f"{path.name} contains answers of {len(models)} models",
            place=str(path),
            hint=f"select one: `replay:{path.name}#<model>` with {', '.join(models)}",
        )
    return table.filter(pc.equal(table["model"], model)) if model else table


def _as_one_token(log_perplexity: float | None) -> tuple[float, ...]:
    """Return the mean as the only value, because single tokens are not recorded."""
    return () if log_perplexity is None or not math.isfinite(log_perplexity) else (-log_perplexity,)


def _in_shown_order(logprobs: list[float] | None, order: list[int] | None) -> tuple[float, ...]:
    """Reorder from the order of the question to the order in which the options were shown.

    Nothing is returned for values that are no probabilities, or an order of other options.
    """
    shown = order or range(len(logprobs or ()))
    if not logprobs or sorted(shown) != list(range(len(logprobs))):
        return ()
    if not all(lp is not None and lp <= 0 for lp in logprobs):
        return ()
    return tuple(logprobs[option] for option in shown)


# Probabilities of options and of whole texts

MIN_LOGPROB = math.log(1e-10)
"""Lower bound of the log-probability of an option."""
MIN_OPTION_MASS = 0.5
"""Smallest probability of all options together for which single ones are used. Below it the model was about
to write something else."""
_AROUND = " \t\r\n\"'`*_()[]{}<>.,:;!?-–—▁Ġ"
"""Characters around a label in a token that do not change its meaning."""
_SPECIAL_TOKEN = re.compile(r"<\|[^|<>]*\|>|</?s>|<(end_of_turn|eos|pad)>")
LONGEST_TRAIL = 3
"""Tokens that may follow the answer, such as a stop word that the server removed from the text."""


@dataclass(frozen=True, slots=True)
class OptionScores:
    """Probabilities of the options at the first token of an answer."""

    logprobs: tuple[float, ...] | None
    """ln p of each option in the order asked for, not renormalised. `None` if they may not be used."""
    mass: float | None
    """Summed probability of the options that are listed. `None` if no token could be found."""
    reason: str = ""
    """Why `logprobs` is `None`: `no logprobs`, `not aligned`, `no option listed` or `low mass`."""


def score_options(
    completion: Completion, labels: Sequence[str], min_mass: float = MIN_OPTION_MASS
) -> OptionScores:
    """Return the probabilities of options, if they describe the visible answer.

    They come from the alternatives of the first visible token that is not only space or punctuation. Tokens
    of the model's reasoning are skipped. The probabilities of the surface forms of a label (case, space,
    quotes and punctuation around it) are added. A label that is not among the alternatives gets the smallest
    upper bound that follows from them: it cannot be more likely than the least likely alternative, nor than
    the probability that they leave over.

    Args:
        completion: An answer with log-probabilities.
        labels: Labels such as "A", "B" or "yes", "no".
        min_mass: Smallest summed probability of the listed options.

    Returns:
        No value is below `MIN_LOGPROB`. Recorded answers carry the logprobs of their options, which were
        checked when they were recorded and are returned unchanged.
    """
    if len(completion.option_logprobs) == len(labels) and labels:
        recorded = completion.option_logprobs
        return OptionScores(recorded, min(1.0, math.fsum(map(math.exp, recorded))))
    if not completion.logprobs:
        return OptionScores(None, None, "no logprobs")
    token = first_visible_token(completion)
    if token is None:
        return OptionScores(None, None, "not aligned")
    listed = _alternatives(token)
    normalised = [label.strip(_AROUND).casefold() for label in labels]
    masses = [math.fsum(p for text, p in listed if text == label) for label in normalised]
    mass = min(1.0, math.fsum(masses))
    if not mass:
        return OptionScores(None, 0.0, "no option listed")
    if mass < min_mass:
        return OptionScores(None, mass, "low mass")
    bound = min(min(p for _, p in listed), max(0.0, 1 - math.fsum(p for _, p in listed)))
    return OptionScores(tuple(_ln(mass if mass > 0 else bound) for mass in masses), mass)


def option_logprobs(
    completion: Completion, labels: Sequence[str], min_mass: float = MIN_OPTION_MASS
) -> tuple[float, ...] | None:
    """Return ln p of each label, or `None` if it is unknown, see `score_options`."""
    return score_options(completion, labels, min_mass).logprobs


def first_visible_token(completion: Completion) -> TokenLogprob | None:
    """Return the first token of the visible answer with more than space and punctuation.

    Some servers list the tokens of the reasoning as well, although the text does not contain it.

    Returns:
        `None` if the tokens do not contain the answer.
    """
    tokens = [
        token for token in completion.logprobs if not _SPECIAL_TOKEN.fullmatch(token.token.strip())
    ] or list(completion.logprobs)
    visible = _plain(remove_reasoning(completion.text))
    start = _visible_start([_plain(token.token) for token in tokens], visible) if visible else 0
    if start is None:
        return None
    end = 0
    for token in tokens:
        end += len(_plain(token.token))
        if end > start and token.token.strip(_AROUND):
            return token
    return None


def _visible_start(tokens: Sequence[str], visible: str) -> int | None:
    """Return the position of the visible answer in the joined tokens, or `None` if it is not in them."""
    joined = "".join(tokens)
    base = find_reasoning_end(joined)
    rest = joined[base:]
    start = base + len(rest) - len(rest.lstrip())
    rest = rest.strip()
    if rest.startswith(visible):
        trail = sum(1 for _ in _after(tokens, start + len(visible)))
        if base or trail <= LONGEST_TRAIL:
            return start
    if rest and visible.startswith(rest):  # fewer tokens are listed than the answer has
        return start
    return base + joined[base:].rstrip().rfind(visible) if rest.endswith(visible) else None


def _after(tokens: Sequence[str], position: int) -> Iterator[str]:
    """Yield the tokens that begin at or behind a position and are not only space."""
    begin = 0
    for token in tokens:
        if begin >= position and token.strip():
            yield token
        begin += len(token)


def _plain(text: str) -> str:
    """Return a text or token with ordinary spaces and line breaks, not the marks of a tokenizer."""
    return text.replace("▁", " ").replace("Ġ", " ").replace("Ċ", "\n")


def log_perplexity(completion: Completion) -> float | None:
    """Return the mean of -ln p over the tokens of a scored text, or `None` if no text was scored."""
    logprobs = completion.prompt_logprobs
    return -math.fsum(logprobs) / len(logprobs) if logprobs else None


def _alternatives(token: TokenLogprob) -> list[tuple[str, float]]:
    """Return surface forms with their probabilities, the generated token included."""
    listed = dict(token.top)
    listed.setdefault(token.token, token.logprob)
    return [(text.strip(_AROUND).casefold(), math.exp(min(0.0, lp))) for text, lp in listed.items()]


def _ln(probability: float) -> float:
    return max(MIN_LOGPROB, min(0.0, math.log(probability))) if probability > 0 else MIN_LOGPROB

"""Continuation stage: ask models for the second half of questions, to test if they know them by heart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from schemas.answers import CONTINUATIONS, Continuation
from schemas.labels import StageCounts
from schemas.question import QUESTIONS, SELECTED, Question
from schemas.release import StageCost, combine_costs
from schemas.tables import content_id
from tasks.files.readers import is_refusal
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.prompts import read_prompt
from tasks.models.protocol import Completion, Decoding, FailureCount, Outcome, Request
from tasks.release.hold_back import is_ghost
from tasks.run.progress import track
from tasks.run.store import Outcome as StageOutcome
from tasks.run.store import RunContext, Stage, TableRef, read_table
from tasks.stats.contamination import overlap, split_canary, truncate

PROMPT = "continue_text"
CANARY = "canary"
"""Question id of the canary string."""
CANARY_TEXT = "BENCHMARK DATA OF {name} SHOULD NEVER APPEAR IN TRAINING CORPORA.\n\n    canary GUID "
"""Words before the GUID, as in CANARY.md."""
MAX_TOKENS = 200
REFUSED = "refused"
"""Failure of a reply that declines to continue the text."""


@dataclass(frozen=True)
class Truncated:
    """A text that a model is asked to continue from its first half."""

    question_id: str
    published: bool
    given: str
    rest: str
    language: str = "en"


def probe_continuations(
    context: RunContext, *, public: TableRef, private: TableRef | None, name: str, canary: str
) -> StageOutcome:
    """Ask every target for the second half of every long question, and of the canary string.

    Args:
        context: Run context.
        public: Questions of the release.
        private: Questions that were never published. `None` without a private file.
        name: Name of the release.
        canary: GUID of the release.

    Raises:
        ModelError: If more calls fail than `validate.max_failure_rate` allows.
    """
    held = read_table(private, QUESTIONS) if private is not None else []
    texts = list(truncated_texts(read_table(public, QUESTIONS), held, name, canary))
    failures = FailureCount(context.recipe.validation.max_failure_rate)
    rows: list[Continuation] = []
    for model in context.recipe.models.targets:
        rows += run_async(_ask(context, model, texts, failures))
    failures.refuse()
    costs = combine_costs(
        StageCost.zero(STAGE.name, row.model).plus(1, row.tokens_in, row.tokens_out, row.cost_usd)
        for row in rows
    )
    counts = StageCounts(
        stage=STAGE.name,
        unit="requests",
        rows=len(rows),
        kept=len(rows) - failures.failed,
        dropped=0,
        failed=failures.failed,
    )
    return StageOutcome(
        tables={CONTINUATIONS: rows},
        counts=(counts,),
        costs=costs,
    )


def truncated_texts(
    public: Iterable[Question], private: Iterable[Question], name: str, canary: str
) -> Iterator[Truncated]:
    """Yield the first variant of every selected question that is long enough, and the canary string."""
    for published, questions in ((True, public), (False, private)):
        for q in questions:
            if is_probed(q) and (halves := truncate(q.variants[0].text)) is not None:
                yield Truncated(q.id, published, *halves, q.language)
    start, rest = split_canary(canary)
    yield Truncated(CANARY, True, CANARY_TEXT.format(name=name) + start, rest)


def is_probed(question: Question) -> bool:
    """Return whether a question is probed: selected originals and ghosts, no controls, no rewordings."""
    chosen = question.label in SELECTED or is_ghost(question)
    return question.control == "none" and chosen and question.variant_of is None


async def _ask(
    context: RunContext, name: str, texts: list[Truncated], failures: FailureCount
) -> list[Continuation]:
    by_tag = {str(number): text for number, text in enumerate(texts)}
    found: dict[str, Continuation] = {}
    async with open_model(name, ModelSettings.of(context)) as model:
        with track(f"{name} continues questions", len(texts)) as bar:
            async for outcome in model.complete(continuation_requests(context, texts)):
                failures.add(name, outcome)
                found[outcome.tag] = _row(by_tag[outcome.tag], name, outcome, Path(context.data_dir))
                bar.advance()
    return [found[tag] for tag in by_tag]


def continuation_requests(context: RunContext, texts: Iterable[Truncated]) -> Iterator[Request]:
    """Yield the request for the second half of each text. Its tag is the number of the text."""
    prompt = read_prompt(Path(context.data_dir) / "probes", PROMPT)
    decoding = Decoding(max_tokens=MAX_TOKENS, temperature=0.0)
    for number, text in enumerate(texts):
        messages = prompt.fill(text=text.given)
        yield Request(tag=str(number), messages=messages, decoding=decoding, stage=STAGE.name)


def _row(text: Truncated, model: str, outcome: Outcome, data_dir: Path) -> Continuation:
    reply, failure, shared = "", None, None
    if isinstance(outcome, Completion):
        reply, shared = outcome.text, overlap(text.rest, outcome.text)
        # A model that declines to continue may know the text all the same.
        refuses = outcome.refusal or is_refusal(reply, language=text.language, data_dir=data_dir)
        failure = REFUSED if refuses and not shared else None
    else:
        failure = outcome.kind
    return Continuation(
        id=content_id("c", model, text.question_id, text.published),
        question_id=text.question_id,
        model=model,
        published=text.published,
        given=text.given,
        reply=reply,
        overlap=None if failure is not None or text.question_id == CANARY else shared,
        failure=failure,
        tokens_in=outcome.tokens_in,
        tokens_out=outcome.tokens_out,
        cost_usd=outcome.cost_usd,
    )


STAGE = Stage(
    "continuation",
    3,
    run=probe_continuations,
    reads=("models", "validate"),
    vocabulary=("probes", "readers"),
)

"""The protocol of models: every request comes back as a `Completion` or a `Failure`."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from schemas.errors import BudgetError, ModelError

Role = Literal["system", "user", "assistant"]
FailureKind = Literal[
    "rate_limit",
    "server",
    "connection",
    "timeout",
    "bad_request",
    "unauthorized",
    "budget",
    "malformed",
    "empty",
    "truncated_reasoning",
    "too_large",
    "quota",
]
EMPTY_KINDS: tuple[FailureKind, ...] = ("empty", "truncated_reasoning")
"""Failures of calls that were answered, but without content. They lower the coverage of an effect, and do not
count against `validate.max_failure_rate`."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the answer is sampled. Every field is part of the cache key."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int = 0
    """Number of alternatives per token to return with their ln p."""
    choices: tuple[str, ...] = ()
    """The only allowed answers, for servers that can enforce them. Empty: any."""
    extra: str = ""
    """More fields of the request as a JSON object, for a server with parameters of its own. Empty: none."""


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """A strict JSON schema that the answer must satisfy."""

    name: str
    schema: dict[str, Any] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Request:
    """One call."""

    tag: str
    """Key of the row, chosen by the caller. Not part of the cache key."""
    messages: tuple[Message, ...]
    decoding: Decoding
    sample: int = 0
    json_schema: JsonSchema | None = None
    stage: str = ""
    """Stage that the cost is attributed to. For the cost table only."""
    score_prompt: bool = False
    """Return the log-probabilities of the last message as plain text, instead of an answer."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One generated token, and its alternatives as (token, ln p)."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer."""

    tag: str
    text: str
    finish_reason: str | None
    revision: str | None
    tokens_in: int
    tokens_out: int
    cost_usd: float
    """Cost by the price list, the same for answers from the cache."""
    cached: bool
    refusal: bool = False
    """The server marked the answer as a refusal (`message.refusal` or a content filter)."""
    logprobs: tuple[TokenLogprob, ...] = ()
    tokens_in_cached: int = 0
    """Part of `tokens_in` that the provider billed at the price of its prompt cache."""
    option_logprobs: tuple[float, ...] = ()
    """ln p of each option in the order shown. Only recorded answers have it, see `replay`."""
    prompt_logprobs: tuple[float, ...] = ()
    """ln p of each token of the given text except the first, if `Request.score_prompt` is set."""
    adapted: tuple[str, ...] = ()
    """Parameters of the request that the server refused, so that the answer was given without them:
    `temperature`, `system`, `response_format:json_object`, `top_logprobs:5` and so on."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without an answer after all attempts."""

    tag: str
    kind: FailureKind
    message: str
    """Never contains a key, a header or a query string."""
    attempts: int
    tokens_in: int = 0
    tokens_out: int = 0
    """Tokens of the answers without content that were received."""
    cost_usd: float = 0.0


Outcome = Completion | Failure


def response_tag(question_id: str, variant: int, phase: str, sample: int, condition: str = "plain") -> str:
    """Return the tag of a request for one answer. `replay` finds the recorded answer by it."""
    return f"{question_id}/{variant}/{phase}/{sample}/{condition}"


class Model(Protocol):
    """Anything that answers requests: a server, a recording, an engine in this process."""

    name: str
    """The name in the recipe."""
    data_dir: Path
    """Vocabulary folder, with the prompts in `prompts/`."""
    failures: FailureCount
    """Calls for structured answers since the model was opened, and their failures."""

    def complete(self, requests: Iterable[Request]) -> AsyncIterator[Outcome]:
        """Answer every request, in the order of completion, with one outcome per request."""
        ...

    async def close(self) -> None:
        """Release connections, and write pending answers."""
        ...


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that gave no answer."""

    kind: FailureKind
    message: str
    """Never contains a key, a header or a query string."""
    final: bool = False
    """Another attempt cannot help."""
    retry_after_s: float | None = None
    overload: bool = False
    """The server is overloaded: fewer requests should be in flight."""
    may_be_billed: bool = False
    """The server may have answered, and the answer was lost."""
    stops: bool = False
    """Every other request to this model would fail in the same way: the key, quota or address is wrong."""
    no_route: bool = False
    """The server has no such route."""
    hint: str | None = None
    """Next step for the user, if the cause is known."""
    usage: tuple[int, int, int] | None = None
    """Tokens in, out, and from the provider's prompt cache, of an answer that was received and is useless."""


Try = Callable[[Request], Awaitable[Completion | FailedAttempt]]


class Backend(Protocol):
    """A source of answers. Retries, budget and cache are the business of other layers."""

    async def ask(self, request: Request) -> Completion | FailedAttempt:
        """Make one attempt. `cost_usd` is 0 here; it is filled in later."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


def estimate_tokens(text: str) -> int:
    """Estimate the number of tokens of a text: one per four UTF-8 bytes, rounded up.

    English averages about 4 bytes per token in current byte-pair vocabularies. Other scripts use fewer
    characters but more bytes per token, so the estimate is too high for them.
    """
    return -(-len(text.encode("utf-8", "replace")) // 4)


def estimate_prompt_tokens(messages: tuple[Message, ...]) -> int:
    """Estimate the number of tokens of a prompt, with 4 tokens per message for the chat format."""
    return sum(4 + estimate_tokens(message.content) for message in messages)


UNREADABLE = {
    "truncated": (
        "ended at the length limit before they were complete, also in a second try",
        "raise the model's `max_tokens`, or use a model that answers without reasoning aloud",
    ),
    "unparsable": (
        "are not the JSON object that was asked for, also after one correction",
        "try the model with `counterfoil models MODEL --probe`, or use one that follows a JSON schema",
    ),
    "refused": ("refuse the task", "use a model that accepts it"),
}
"""Reasons for which no answer of a probe can be read, in words, and the next step."""


@dataclass
class FailureCount:
    """Number of calls and of failures. Too many failures stop a stage.

    The stage writes no table then. Answers that were received are in the cache, and the same command asks for
    the others.
    """

    tolerated: float
    """Largest share of failures."""
    calls: int = 0
    kinds: Counter[FailureKind] = field(default_factory=Counter)
    first: dict[FailureKind, str] = field(default_factory=dict)
    """The first failure of each kind: model and message."""
    left_to_probe: int = 0
    """Structured answers that are still awaited before others are asked for. 0 as soon as one can be read."""
    unread: Counter[str] = field(default_factory=Counter)
    """Answers of the probe that cannot be read, by reason."""

    @property
    def failed(self) -> int:
        """Return the number of failed calls, answers without content included."""
        return self.kinds.total()

    @property
    def empty(self) -> int:
        """Return the number of calls that were answered without content."""
        return sum(self.kinds[kind] for kind in EMPTY_KINDS)

    def add(self, model: str, outcome: Outcome) -> None:
        """Count one call."""
        self.calls += 1
        if isinstance(outcome, Failure):
            self.kinds[outcome.kind] += 1
            self.first.setdefault(outcome.kind, f"{model}: {outcome.message}")

    def count_probe(self, model: str, unread: str | None, detail: str = "") -> None:
        """Count one structured answer of the probe.

        Args:
            model: Name of the model.
            unread: Why the answer cannot be read. `None`: it was read, and the probe is over.
            detail: What is wrong with the answer, or the refusal itself.

        Raises:
            ModelError: If it is the last one, and no answer could be read for one reason that another try
                does not change: `truncated`, `unparsable` or `refused`.
        """
        if unread is None:
            self.left_to_probe = 0
        if not self.left_to_probe:
            return
        self.left_to_probe -= 1
        self.unread[unread or ""] += 1
        if not self.left_to_probe and len(self.unread) == 1 and unread in UNREADABLE:
            state, hint = UNREADABLE[unread]
            raise ModelError(
                f"the first {self.unread.total()} answers all {state}; the last one: {detail[:80]!r}",
                place=model,
                hint=f"{hint}; then run the same command again: received answers are kept",
            )

    def merge(self, other: FailureCount) -> None:
        """Add the calls of another part of the stage."""
        self.calls += other.calls
        self.kinds.update(other.kinds)
        self.first = {**other.first, **self.first}

    def refuse(self) -> None:
        """Check the failures.

        Answers without content count only if no call gave an answer with content.

        Raises:
            BudgetError: If the budget did not cover a call.
            ModelError: If too many calls failed.
        """
        if "budget" in self.kinds:
            raise BudgetError(
                f"the budget ran out: {self.kinds['budget']} of {self.calls} calls were not made",
                place=self.first["budget"],
                hint="raise `budget.usd` (or --budget) and run the same command again: "
                "received answers are kept",
            )
        if self.failed - self.empty > self.tolerated * self.calls or (
            self.failed == self.calls > 0 and self.tolerated < 1
        ):
            kinds = ", ".join(f"{n} × {kind}" for kind, n in self.kinds.most_common())
            raise ModelError(
                f"{self.failed} of {self.calls} calls failed ({kinds}); {self.tolerated:.0%} are tolerated",
                place=next(iter(self.first.values())),
                hint="repair the endpoint and run the same command again: received answers are not paid for "
                "twice; or raise validate.max_failure_rate in the recipe",
            )

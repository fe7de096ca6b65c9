"""The one protocol: requests go in, each comes back as a `Completion` or a `Failure`, never as nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from schemas.errors import BudgetError, ModelError

Role = Literal["system", "user", "assistant"]
FailureKind = Literal[
    "rate_limit", "server", "connection", "timeout", "bad_request", "unauthorized", "budget", "malformed"
]


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the answer is drawn. All of it is part of the cache key."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int = 0
    """How many alternatives per token to return with their ln p; 0: none."""
    choices: tuple[str, ...] = ()
    """The only answers that are allowed, for servers that can be held to them; empty: any."""


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """A strict JSON schema that the answer must satisfy."""

    name: str
    schema: dict[str, Any] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Request:
    """One call. `tag` is the caller's own key for the row and is not part of the cache key."""

    tag: str
    messages: tuple[Message, ...]
    decoding: Decoding
    sample: int = 0
    json_schema: JsonSchema | None = None
    stage: str = ""
    """Which stage pays; for the cost table only."""
    score_prompt: bool = False
    """Nothing is to be answered: how likely is the text of the last message itself, as plain text?"""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One generated token, and its alternatives as (token, ln p)."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Completion:
    tag: str
    text: str
    finish_reason: str | None
    revision: str | None
    tokens_in: int
    tokens_out: int
    cost_usd: float
    """At the price list; the same whether it came from the cache or not."""
    cached: bool
    refusal: bool = False
    """The server itself marked the answer as a refusal (`message.refusal` or a content filter)."""
    logprobs: tuple[TokenLogprob, ...] = ()
    tokens_in_cached: int = 0
    """Of `tokens_in`, those that the provider billed at its own prompt cache's price."""
    option_logprobs: tuple[float, ...] = ()
    """ln p of each option in the order shown; only recorded answers carry it (see `replay`)."""
    prompt_logprobs: tuple[float, ...] = ()
    """ln p of each token of the given text but its first, where `Request.score_prompt` asked for it."""


@dataclass(frozen=True, slots=True)
class Failure:
    tag: str
    kind: FailureKind
    message: str
    """Never holds a key, a header or a query string."""
    attempts: int


Outcome = Completion | Failure


def response_tag(question_id: str, variant: int, phase: str, sample: int, condition: str = "plain") -> str:
    """The tag of a request for one answer, and the key by which `replay` finds the recorded one."""
    return f"{question_id}/{variant}/{phase}/{sample}/{condition}"


class Model(Protocol):
    """Anything that answers requests: a server, a recording, an engine in this process."""

    name: str
    """As the recipe names it."""
    data_dir: Path
    """Vocabulary directory, with the prompts in `prompts/`."""
    failures: FailureCount
    """Calls for structured answers since it was opened, and those that failed."""

    def complete(self, requests: Iterable[Request]) -> AsyncIterator[Outcome]:
        """Answer every request, in the order of completion; exactly one outcome a request."""
        ...

    async def close(self) -> None: ...


# What a backend is: it tries one request once. Patience, money and memory are other layers' business.


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A try that gave no answer."""

    kind: FailureKind
    message: str
    """Never holds a key, a header or a query string."""
    final: bool = False
    """Another try cannot help."""
    retry_after_s: float | None = None
    overload: bool = False
    """The server has more to do than it can: ask it less at a time."""
    may_be_billed: bool = False
    """The server may have answered; the answer was lost."""


Try = Callable[[Request], Awaitable[Completion | FailedAttempt]]


class Backend(Protocol):
    """Where answers come from."""

    async def ask(self, request: Request) -> Completion | FailedAttempt:
        """One try. Costs are filled in later: `cost_usd` is 0 here."""
        ...

    async def close(self) -> None: ...


def estimate_tokens(text: str) -> int:
    """Tokens of a text where nobody counted them: one per four UTF-8 bytes, rounded up.

    English averages about 4 bytes a token in current byte-pair vocabularies; other scripts use fewer
    characters but more bytes a token, so counting bytes errs on the high side for them.
    """
    return -(-len(text.encode("utf-8", "replace")) // 4)


def estimate_prompt_tokens(messages: tuple[Message, ...]) -> int:
    """As `estimate_tokens`, with 4 tokens a message for the chat format around it."""
    return sum(4 + estimate_tokens(message.content) for message in messages)


# When failed calls stop a stage. Nothing is written then: the answers that came are in the cache, and the
# same command asks for the others.


@dataclass
class FailureCount:
    """The calls that were made, and those of them that failed."""

    tolerated: float
    """Share that may fail."""
    calls: int = 0
    kinds: Counter[FailureKind] = field(default_factory=Counter)
    first: dict[FailureKind, str] = field(default_factory=dict)
    """The first failure of each kind: whose it was, and what it said."""

    @property
    def failed(self) -> int:
        return self.kinds.total()

    def add(self, model: str, outcome: Outcome) -> None:
        """One call, and what came of it."""
        self.calls += 1
        if isinstance(outcome, Failure):
            self.kinds[outcome.kind] += 1
            self.first.setdefault(outcome.kind, f"{model}: {outcome.message}")

    def refuse(self) -> None:
        """Raise `BudgetError` where a call could not be paid, `ModelError` where too many failed."""
        if "budget" in self.kinds:
            raise BudgetError(
                f"the budget ran out with {self.kinds['budget']} calls of {self.calls} left to make",
                place=self.first["budget"],
                hint="raise `budget.usd` (or --budget) and run the same command again: answers that came are "
                "kept",
            )
        if self.failed > self.tolerated * self.calls:
            kinds = ", ".join(f"{n} × {kind}" for kind, n in self.kinds.most_common())
            raise ModelError(
                f"{self.failed} of {self.calls} calls failed ({kinds}); {self.tolerated:.0%} are tolerated",
                place=next(iter(self.first.values())),
                hint="mend the endpoint and run the same command again: answers that came are not paid "
                "twice; or raise the recipe's validate.max_failure_rate",
            )

"""The one protocol: requests go in, each comes back as a `Completion` or a `Failure`, never as nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from tasks.models.failures import Failures

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
    failures: Failures
    """Calls for structured answers since it was opened, and those that failed."""

    def complete(self, requests: Iterable[Request]) -> AsyncIterator[Outcome]:
        """Answer every request, in the order of completion; exactly one outcome a request."""
        ...

    async def close(self) -> None: ...

"""What a backend is: it tries one request once. Patience, money and memory are other layers' business."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from tasks.models.protocol import Completion, FailureKind, Message, Request


@dataclass(frozen=True, slots=True)
class Setback:
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


Try = Callable[[Request], Awaitable[Completion | Setback]]


class Backend(Protocol):
    """Where answers come from."""

    async def ask(self, request: Request) -> Completion | Setback:
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

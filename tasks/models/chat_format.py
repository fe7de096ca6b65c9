"""The OpenAI chat format: a request as a JSON body, a JSON body as a completion.

Servers that call themselves compatible leave things out (usage, logprobs, ids) or null; what is not needed
is not asked for, and what is missing is estimated or empty, never an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from tasks.models.backend import Setback, estimate_prompt_tokens, estimate_tokens
from tasks.models.names import OPENAI_ENDPOINT
from tasks.models.protocol import Completion, Request, TokenLogprob

OPTIONAL_PARAMETERS = (
    "response_format",
    "structured_outputs",
    "grammar",
    "top_logprobs",
    "logprobs",
    "seed",
    "max_completion_tokens",
    "max_tokens",
    "temperature",
    "top_p",
)


@dataclass
class Dialect:
    """Which optional parameters a server turned out not to take; learnt from its 400s, kept per model.

    Without `response_format` the schema is written into the last message instead. `max_tokens` and
    `max_completion_tokens` stand for each other. `temperature` and `top_p` are given up only where they
    are 1, the protocol's default: anything else would be another measurement.
    """

    length: str = "max_tokens"
    refused: set[str] = field(default_factory=set)
    owner: str | None = None
    """Who the server says owns the model (`owned_by`): `llamacpp` and `vllm` can be held to choices, each in
    its own way. `None`: not asked yet; empty: it does not say."""

    @classmethod
    def of(cls, endpoint: str) -> Dialect:
        if endpoint == OPENAI_ENDPOINT:
            return cls("max_completion_tokens", owner="openai")
        return cls()

    def give_up(self, parameter: str, body: dict[str, Any]) -> bool:
        """Do without a parameter from now on. False where that cannot be done."""
        if parameter in ("max_tokens", "max_completion_tokens"):
            return self._swap_length(parameter)
        if parameter in ("temperature", "top_p") and body.get(parameter) != 1:
            return False
        self.refused |= {"logprobs", "top_logprobs"} if "logprobs" in parameter else {parameter}
        return True

    def _swap_length(self, parameter: str) -> bool:
        if parameter != self.length:
            return True
        other = "max_completion_tokens" if parameter == "max_tokens" else "max_tokens"
        if other in self.refused:
            return False
        self.refused.add(parameter)
        self.length = other
        return True


def request_body(model: str, request: Request, dialect: Dialect, schema_prompt: str) -> dict[str, Any]:
    """The JSON body of one call. `schema_prompt` (with `$schema`) stands in for missing structured output."""
    decoding, schema = request.decoding, request.json_schema
    messages = [{"role": m.role, "content": m.content} for m in request.messages]
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        dialect.length: decoding.max_tokens,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
    }
    if decoding.seed is not None:
        body["seed"] = decoding.seed
    if decoding.stop:
        body["stop"] = list(decoding.stop)
    if decoding.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": decoding.top_logprobs}
    if decoding.choices:
        body |= held_to(decoding.choices, dialect.owner)
    if schema and "response_format" not in dialect.refused:
        form = {"name": schema.name, "schema": schema.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    elif schema:
        messages[-1]["content"] += "\n\n" + schema_prompt.replace("$schema", json.dumps(schema.schema))
    return {name: value for name, value in body.items() if name not in dialect.refused}


def held_to(choices: Sequence[str], owner: str | None) -> dict[str, Any]:
    """The parameter that lets a server say nothing but one of the choices; none for servers that have none.

    The probabilities that llama.cpp returns are those before its grammar is applied, so they do not change.
    """
    if owner == "llamacpp":
        return {"grammar": "root ::= " + " | ".join(json.dumps(c, ensure_ascii=False) for c in choices)}
    if owner == "vllm":
        return {"structured_outputs": {"choice": list(choices)}}
    return {}


def read_owner(payload: Any, model: str) -> str:
    """`owned_by` of the model in a list of models, or of the first one; empty where it is not said."""
    listed = payload.get("data") if isinstance(payload, dict) else None
    entries = [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []
    entry = next((e for e in entries if e.get("id") == model), entries[0] if entries else {})
    owner = entry.get("owned_by")
    return owner if isinstance(owner, str) else ""


_UNSUPPORTED = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|not permitted|not allowed|extra inputs?"
    r"|unavailable|not available|invalid parameter|not implemented|disabled",
    re.IGNORECASE,
)


def refused_parameter(status: int, error: dict[str, Any], body: dict[str, Any]) -> str | None:
    """The optional parameter that a 4xx says the server does not take, if that is what it says."""
    message = str(error.get("message") or "")
    if status not in (400, 403, 422, 501) or not (
        _UNSUPPORTED.search(message) or "unsupported" in str(error.get("code"))
    ):
        return None
    named = str(error.get("param") or "")
    for parameter in OPTIONAL_PARAMETERS:
        if parameter in body and (
            named.split(".")[0] == parameter or re.search(rf"\b{parameter}\b", message)
        ):
            return parameter
    return None


def read_completion(payload: Any, request: Request) -> Completion | Setback:
    """A 200's JSON as a completion; without choices it is a `malformed` setback."""
    choice = _first(payload.get("choices")) if isinstance(payload, dict) else None
    message = choice.get("message") if choice else None
    if choice is None or not isinstance(message, dict):
        return Setback("malformed", "the server's answer holds no choice", may_be_billed=True)
    refusal = message.get("refusal")
    finish = choice.get("finish_reason")
    text = _text(message.get("content")) or (refusal if isinstance(refusal, str) else "")
    usage = payload.get("usage") if isinstance(payload.get("usage"), dict) else {}
    details = usage.get("prompt_tokens_details")
    revision = payload.get("model")
    return Completion(
        tag=request.tag,
        text=text,
        finish_reason=finish if isinstance(finish, str) else None,
        revision=revision if isinstance(revision, str) else None,
        tokens_in=_count(usage.get("prompt_tokens"), estimate_prompt_tokens(request.messages)),
        tokens_out=_count(usage.get("completion_tokens"), estimate_tokens(text)),
        cost_usd=0.0,
        cached=False,
        refusal=bool(refusal) or finish == "content_filter",
        logprobs=_logprobs(choice.get("logprobs")),
        tokens_in_cached=_count(details.get("cached_tokens"), 0) if isinstance(details, dict) else 0,
    )


def retry_after_s(header: str | None, now: float) -> float | None:
    """Seconds to wait by a `Retry-After` header, in seconds or as an HTTP date; `None` where it says nothing.
    `now` is Unix time."""
    if not header:
        return None
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", header):
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return None


def _first(value: Any) -> dict[str, Any] | None:
    return value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else None


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
    return content if isinstance(content, str) else ""


def _count(value: Any, default: int) -> int:
    return value if isinstance(value, int) and value >= 0 else default


def _logprobs(value: Any) -> tuple[TokenLogprob, ...]:
    content = value.get("content") if isinstance(value, dict) else None
    if not isinstance(content, list):
        return ()
    try:
        return tuple(
            TokenLogprob(
                str(entry["token"]),
                float(entry["logprob"]),
                tuple((str(t["token"]), float(t["logprob"])) for t in entry.get("top_logprobs") or ()),
            )
            for entry in content
        )
    except (KeyError, TypeError, ValueError):
        return ()

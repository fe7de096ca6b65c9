"""The OpenAI chat format: a request becomes a JSON body, a JSON body becomes a completion.

Servers that call themselves compatible omit fields (usage, logprobs, ids) or set them to null. Optional
fields are only requested if they are needed, and missing ones are estimated or empty.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tasks.models.names import OPENAI_ENDPOINT
from tasks.models.protocol import (
    Completion,
    FailedAttempt,
    Request,
    TokenLogprob,
    estimate_prompt_tokens,
    estimate_tokens,
)

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
    """Optional parameters that a server does not support. Learnt from its 400 responses, kept per model.

    Without `response_format` the schema is written into the last message. `max_tokens` and
    `max_completion_tokens` replace each other. `temperature` and `top_p` are only given up if they are 1, the
    default of the protocol: any other value would change the measurement.
    """

    length: str = "max_tokens"
    refused: set[str] = field(default_factory=set)
    owner: str | None = None
    """Owner of the model according to the server (`owned_by`). `llamacpp` and `vllm` can be restricted to
    choices, each in its own way. `None`: not asked yet. Empty: the server does not state it."""

    @classmethod
    def of(cls, endpoint: str) -> Dialect:
        """Return the initial dialect of an endpoint."""
        if endpoint == OPENAI_ENDPOINT:
            return cls("max_completion_tokens", owner="openai")
        return cls()

    def give_up(self, parameter: str, body: dict[str, Any]) -> bool:
        """Stop sending a parameter. Return False if that is not possible."""
        if parameter in ("max_tokens", "max_completion_tokens"):
            return self._swap_length(parameter)
        if parameter in ("temperature", "top_p") and body.get(parameter) != 1:
            return False
        self.refused |= {"logprobs", "top_logprobs"} if "logprobs" in parameter else {parameter}
        return True

    def _swap_length(self, parameter: str) -> bool:
        if parameter != self.length:
            return True
        replacement = "max_completion_tokens" if parameter == "max_tokens" else "max_tokens"
        if replacement in self.refused:
            return False
        self.refused.add(parameter)
        self.length = replacement
        return True


def request_body(model: str, request: Request, dialect: Dialect, schema_prompt: str) -> dict[str, Any]:
    """Return the JSON body of one call.

    Args:
        model: Name of the model on the server.
        request: The request.
        dialect: Parameters that the server supports.
        schema_prompt: Text with `$schema` that replaces structured output on servers without it.
    """
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
        body |= schema_fields(decoding.choices, dialect.owner)
    if schema and "response_format" not in dialect.refused:
        form = {"name": schema.name, "schema": schema.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    elif schema:
        messages[-1]["content"] += "\n\n" + schema_prompt.replace("$schema", json.dumps(schema.schema))
    return {name: value for name, value in body.items() if name not in dialect.refused}


def schema_fields(choices: Sequence[str], owner: str | None) -> dict[str, Any]:
    """Return the parameter that restricts a server to the choices, or nothing for servers without one.

    llama.cpp returns the probabilities from before its grammar is applied, so they do not change.
    """
    if owner == "llamacpp":
        return {"grammar": "root ::= " + " | ".join(json.dumps(c, ensure_ascii=False) for c in choices)}
    if owner == "vllm":
        return {"structured_outputs": {"choice": list(choices)}}
    return {}


def read_owner(payload: Any, model: str) -> str:
    """Return `owned_by` of the model in a list of models, or of the first model. Empty if it is missing."""
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
    """Return the optional parameter that a 4xx response rejects, or `None` if it rejects none."""
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


def read_completion(payload: Any, request: Request) -> Completion | FailedAttempt:
    """Read the JSON of a 200 response. Without choices the result is a `malformed` failure."""
    choice = _first(payload.get("choices")) if isinstance(payload, dict) else None
    message = choice.get("message") if choice else None
    if choice is None or not isinstance(message, dict):
        return FailedAttempt("malformed", "the server's answer contains no choice", may_be_billed=True)
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


# Scoring a given text

Call = Callable[[str, dict[str, Any]], Awaitable[Any]]
"""Posts a JSON body to a path. Returns the JSON of the response, or a `FailedAttempt`."""

FORCED = 10_000.0
"""A bias that leaves a token no alternative."""


async def score_text(
    request: Request, model: str, owner: str | None, call: Call, root: str
) -> Completion | FailedAttempt:
    """Return a completion with `prompt_logprobs` of the text in the last message.

    No chat format surrounds it.

    llama.cpp returns no probabilities of a prompt. There, each token of the text is forced by a bias, one
    call per token, and comes back with its ln p from before the bias. Other servers (vLLM, SGLang) repeat the
    prompt with its probabilities (`echo`). The first token has no ln p, because nothing precedes it.

    Args:
        request: The request.
        model: Name of the model on the server.
        owner: See `Dialect.owner`.
        call: Posts a JSON body to a path.
        root: Address of the server without the version of the protocol.

    Returns:
        A final `bad_request` failure if the server cannot score texts, or the text has fewer than two tokens.
    """
    text = request.messages[-1].content
    scored = await (
        _forced_token_by_token(text, model, call, root) if owner == "llamacpp" else _echoed(text, model, call)
    )
    if isinstance(scored, FailedAttempt):
        if scored.kind != "bad_request":
            return scored
        return replace(
            scored, message=f"the server does not score a given text: {scored.message}", final=True
        )
    logprobs, revision, tokens = scored
    if not logprobs:
        return FailedAttempt("bad_request", "a text of fewer than two tokens has no perplexity", final=True)
    return Completion(
        tag=request.tag,
        text="",
        finish_reason=None,
        revision=revision,
        tokens_in=tokens,
        tokens_out=0,
        cost_usd=0.0,
        cached=False,
        prompt_logprobs=logprobs,
    )


Scored = tuple[tuple[float, ...], str | None, int]
"""ln p of each token after the first, the server's name of the model, and the number of tokens."""


async def _forced_token_by_token(text: str, model: str, call: Call, root: str) -> Scored | FailedAttempt:
    body = {"content": text, "add_special": True, "parse_special": False}
    tokens = _tokens_of(await call(f"{root}/tokenize", body))
    if isinstance(tokens, FailedAttempt):
        return tokens
    logprobs, revision = [], None
    for i in range(1, len(tokens)):
        body = {
            "model": model,
            "prompt": tokens[:i],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            "logit_bias": {str(tokens[i]): FORCED},
            "cache_prompt": False,
        }
        payload = await call("/completions", body)
        if isinstance(payload, FailedAttempt):
            return payload
        try:
            entry = payload["choices"][0]["logprobs"]["content"][0]
            forced, logprob, revision = int(entry["id"]), float(entry["logprob"]), payload.get("model")
        except (KeyError, IndexError, TypeError, ValueError):
            return _malformed()
        if forced != tokens[i]:
            return FailedAttempt("bad_request", "it does not accept `logit_bias`", final=True)
        logprobs.append(min(0.0, logprob))
    return tuple(logprobs), revision, len(tokens)


def _tokens_of(payload: Any) -> list[int] | FailedAttempt:
    if isinstance(payload, FailedAttempt):
        return payload
    tokens = payload.get("tokens") if isinstance(payload, dict) else None
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        return _malformed()
    return tokens


async def _echoed(text: str, model: str, call: Call) -> Scored | FailedAttempt:
    body = {"model": model, "prompt": text, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
    payload = await call("/completions", body)
    if isinstance(payload, FailedAttempt):
        return payload
    try:
        choice = payload["choices"][0]
        repeated = str(choice["text"]).startswith(text)
        listed = (choice.get("logprobs") or {}).get("token_logprobs")
        tokens = int((payload.get("usage") or {}).get("prompt_tokens") or len(listed or ()) - 1)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return _malformed()
    if not repeated or not isinstance(listed, list) or len(listed) < tokens:
        return FailedAttempt("bad_request", "it ignores `echo` with `logprobs`", final=True)
    try:
        return tuple(min(0.0, float(lp)) for lp in listed[1:tokens]), payload.get("model"), tokens
    except (TypeError, ValueError):
        return _malformed()


def _malformed() -> FailedAttempt:
    return FailedAttempt("malformed", "the server's answer contains no probabilities", may_be_billed=True)

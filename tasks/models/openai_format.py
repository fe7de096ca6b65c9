"""The OpenAI chat format: a request becomes a JSON body, a JSON body becomes a completion.

Servers that call themselves compatible omit fields (usage, logprobs, ids) or set them to null. Optional
fields are only requested if they are needed, and missing ones are estimated or empty.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from schemas.recipe import MAX_COUNT
from tasks.models.capabilities import Capabilities
from tasks.models.empty_answers import require_content
from tasks.models.protocol import (
    Completion,
    FailedAttempt,
    Request,
    TokenLogprob,
    estimate_prompt_tokens,
    estimate_tokens,
)
from tasks.text.printable import printable, replace_surrogates


def request_body(
    model: str, request: Request, capabilities: Capabilities, schema_prompt: str
) -> dict[str, Any]:
    """Return the JSON body of one call.

    Args:
        model: Name of the model on the server.
        request: The request.
        capabilities: Supported features of the server.
        schema_prompt: Text with `$schema` that replaces structured output on servers without it.
    """
    decoding, schema = request.decoding, request.json_schema
    messages = [{"role": m.role, "content": m.content} for m in request.messages]
    if not capabilities.system_role:
        messages = without_system_role(messages)
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        capabilities.length: decoding.max_tokens,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
    }
    if decoding.seed is not None:
        body["seed"] = decoding.seed
    if decoding.stop:
        body["stop"] = list(decoding.stop)
    if decoding.top_logprobs:
        most = capabilities.most_logprobs or decoding.top_logprobs
        body |= {"logprobs": True, "top_logprobs": min(most, decoding.top_logprobs)}
    if decoding.choices:
        body |= schema_fields(decoding.choices, capabilities.owner)
    if schema:
        if capabilities.structured == "json_schema":
            form = {"name": schema.name, "schema": schema.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        else:
            prompt = schema_prompt.replace("$schema", json.dumps(schema.schema))
            messages[-1]["content"] += "\n\n" + prompt
        if capabilities.structured == "json_object":
            body["response_format"] = {"type": "json_object"}
    if decoding.extra:
        body |= json.loads(decoding.extra)
    return {name: value for name, value in body.items() if name not in capabilities.refused}


def without_system_role(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the messages with the system text before the text of the first user message."""
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    others = [dict(m) for m in messages if m["role"] != "system"]
    first = next((m for m in others if m["role"] == "user"), None)
    if not system:
        return others
    if first is None:
        return [{"role": "user", "content": system}, *others]
    first["content"] = f"{system}\n\n{first['content']}"
    return others


def schema_fields(choices: Sequence[str], owner: str | None) -> dict[str, Any]:
    """Return the parameter that restricts a server to the choices, or nothing for servers without one.

    llama.cpp returns the probabilities from before its grammar is applied, so they do not change.
    """
    if owner == "llamacpp":
        return {"grammar": "root ::= " + " | ".join(json.dumps(c, ensure_ascii=False) for c in choices)}
    if owner == "vllm":
        return {"structured_outputs": {"choice": list(choices)}}
    return {}


def read_model_names(payload: Any) -> tuple[str, ...]:
    """Return the names in a list of models. Empty if the server has no such list."""
    return tuple(str(entry["id"]) for entry in _model_entries(payload) if entry.get("id"))


def _model_entries(payload: Any) -> list[dict[str, Any]]:
    listed = payload.get("data") if isinstance(payload, dict) else None
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []


def read_owner(payload: Any, model: str) -> str:
    """Return `owned_by` of the model in a list of models, or of the first model. Empty if it is missing."""
    entries = _model_entries(payload)
    entry = next((e for e in entries if e.get("id") == model), entries[0] if entries else {})
    owner = entry.get("owned_by")
    return owner if isinstance(owner, str) else ""


REFUSAL_FINISHES = (
    "content_filter",
    "refusal",
    "safety",
    "sensitive",
    "guardrail_intervened",
    "prohibited_content",
)
"""Values of `finish_reason` with which servers mark that a filter or the model itself refused."""
FAILED_FINISHES = ("error", "network_error", "insufficient_system_resource")
"""Values of `finish_reason` of answers that the server could not finish."""


def read_completion(payload: Any, request: Request) -> Completion | FailedAttempt:
    """Read the JSON of a 200 response.

    Returns:
        A `malformed` failure without choices, and a failure of `empty_answers` without content.
    """
    choice = _first(payload.get("choices")) if isinstance(payload, dict) else None
    message = choice.get("message") if choice else None
    if choice is None or not isinstance(message, dict):
        return FailedAttempt("malformed", "the server's answer contains no choice", may_be_billed=True)
    refusal = message.get("refusal")
    finish = choice.get("finish_reason")
    text = _text(message.get("content")) or (_clean(refusal) if isinstance(refusal, str) else "")
    usage = payload.get("usage") if isinstance(payload.get("usage"), dict) else {}
    details = usage.get("prompt_tokens_details")
    revision = payload.get("model")
    completion = Completion(
        tag=request.tag,
        text=text,
        finish_reason=finish if isinstance(finish, str) else None,
        revision=_name(revision),
        tokens_in=read_count(usage.get("prompt_tokens"), estimate_prompt_tokens(request.messages)),
        tokens_out=read_count(usage.get("completion_tokens"), estimate_tokens(text)),
        cost_usd=0.0,
        cached=False,
        refusal=bool(refusal) or str(finish).lower() in REFUSAL_FINISHES,
        logprobs=_logprobs(choice.get("logprobs")),
        tokens_in_cached=read_count(details.get("cached_tokens"), 0) if isinstance(details, dict) else 0,
    )
    if finish in FAILED_FINISHES:
        spent = (completion.tokens_in, completion.tokens_out, completion.tokens_in_cached)
        return FailedAttempt("server", "the server stopped the answer with an error", usage=spent)
    return require_content(completion, _other_content(message))


def has_reasoning(payload: Any) -> bool:
    """Return whether an answer contains reasoning, in a field of its own or in its text."""
    choice = _first(payload.get("choices")) if isinstance(payload, dict) else None
    message = choice.get("message") if choice else None
    if not isinstance(message, dict):
        return False
    return any(message.get(name) for name in REASONING_FIELDS) or "<think>" in _text(message.get("content"))


REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_details", "thinking")


def _other_content(message: dict[str, Any]) -> str:
    """Describe the other content of a message without text, for an error message."""
    if _text(message.get("content")).strip():
        return ""
    if any(message.get(name) for name in REASONING_FIELDS):
        return "it contains only reasoning"
    return "it contains only tool calls" if message.get("tool_calls") else ""


def error_in_answer(payload: Any) -> tuple[int, dict[str, Any]] | None:
    """Return status and error object of a 200 response that is an error, or `None` if it is an answer.

    Google wraps an error in a list. Older versions of vLLM mark it with `"object": "error"`.
    """
    payload = _first(payload) if isinstance(payload, list) else payload
    if not isinstance(payload, dict):
        return None
    choice = _first(payload.get("choices"))
    if choice is not None:
        error = choice.get("error")
    else:
        error = payload if payload.get("object") == "error" else payload.get("error")
    if not error:
        return None
    error = error if isinstance(error, dict) else {"message": str(error)}
    code = str(error.get("code") or error.get("status") or "")
    return (int(code) if re.fullmatch(r"[45]\d\d", code) else 502), error


def _first(value: Any) -> dict[str, Any] | None:
    return value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else None


def _text(content: Any) -> str:
    if isinstance(content, list):
        parts = (p.get("text") for p in content if isinstance(p, dict) and p.get("type") != "thinking")
        return _clean("".join(part for part in parts if isinstance(part, str)))
    return _clean(content) if isinstance(content, str) else ""


def _clean(text: str) -> str:
    """Replace lone surrogates, which cannot be stored, and remove a byte order mark."""
    return replace_surrogates(text).removeprefix("\ufeff")


def read_count(value: Any, default: int) -> int:
    """Return a number of tokens that a server states, or the default if it is no possible number."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT
    return value if is_count else default


def _logprobs(value: Any) -> tuple[TokenLogprob, ...]:
    content = value.get("content") if isinstance(value, dict) else None
    if not isinstance(content, list):
        return ()
    try:
        return tuple(
            TokenLogprob(
                _clean(str(entry["token"])),
                _finite(entry["logprob"]),
                tuple(
                    (_clean(str(t["token"])), _finite(t["logprob"])) for t in entry.get("top_logprobs") or ()
                ),
            )
            for entry in content
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return ()


def _finite(logprob: Any) -> float:
    """Return ln p. Minus infinity and values that are no numbers become a very small probability."""
    value = float(LEAST_LOGPROB if logprob is None else logprob)
    return value if math.isfinite(value) else LEAST_LOGPROB


LEAST_LOGPROB = -9999.0
"""ln p that the OpenAI API itself gives to tokens that are practically impossible."""


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
    tokens = _tokens_of(await call(f"{root}/tokenize", body), text)
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
            forced, logprob, revision = int(entry["id"]), _finite(entry["logprob"]), payload.get("model")
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
            return _malformed()
        if forced != tokens[i]:
            return FailedAttempt("bad_request", "it does not accept `logit_bias`", final=True)
        logprobs.append(min(0.0, logprob))
    return tuple(logprobs), _name(revision), len(tokens)


LONGEST_NAME = 256
"""Longest name of a model that is recorded, in characters."""
SPECIAL_TOKENS = 8
"""Tokens that a server may add to a text."""


def _tokens_of(payload: Any, text: str) -> list[int] | FailedAttempt:
    """Return the tokens of a text. Each costs a call, and a text has at most one per byte."""
    if isinstance(payload, FailedAttempt):
        return payload
    tokens = payload.get("tokens") if isinstance(payload, dict) else None
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        return _malformed()
    if len(tokens) > len(text.encode("utf-8", "surrogatepass")) + SPECIAL_TOKENS:
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
        stated = (payload.get("usage") or {}).get("prompt_tokens")
        tokens = read_count(stated, 0) or max(0, len(listed or ()) - 1)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return _malformed()
    if not repeated or not isinstance(listed, list) or len(listed) < tokens:
        return FailedAttempt("bad_request", "it ignores `echo` with `logprobs`", final=True)
    try:
        return tuple(min(0.0, _finite(lp)) for lp in listed[1:tokens]), _name(payload.get("model")), tokens
    except (TypeError, ValueError, OverflowError):
        return _malformed()


def _name(revision: Any) -> str | None:
    return printable(replace_surrogates(revision), LONGEST_NAME) if isinstance(revision, str) else None


def _malformed() -> FailedAttempt:
    return FailedAttempt("malformed", "the server's answer contains no probabilities", may_be_billed=True)

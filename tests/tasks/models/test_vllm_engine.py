"""Parameters that are sent to vLLM, results that are read from it, and errors without vLLM."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from schemas.errors import InputError
from tasks.models.names import cache_name, model_folder, parse_model_name
from tasks.models.preflight import check_models
from tasks.models.protocol import Completion, Decoding, FailedAttempt, JsonSchema, Message, Request
from tasks.models.vllm import context_exceeded, read_output, sampling_arguments
from tests.tasks.models.asking import settings_for

without_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is not None, reason="vLLM is installed in this environment"
)


@dataclass(frozen=True)
class Entry:
    """One alternative of vLLM."""

    logprob: float
    rank: int
    decoded_token: str | None


@dataclass(frozen=True)
class Answer:
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None
    logprobs: list[dict[int, Entry]] | None = None


@dataclass(frozen=True)
class Finished:
    prompt_token_ids: list[int]
    outputs: list[Answer]
    prompt_logprobs: list[dict[int, Entry] | None] | None = None


def request(**decoding: object) -> Request:
    return Request("t", (Message("user", "hello"),), Decoding(**{"max_tokens": 9, **decoding}))  # type: ignore[arg-type]


def model(place: Path, name: str = "model", weights: bytes = b"w" * 100, **config: object) -> Path:
    folder = place / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def key(folder: Path, **engine: object) -> str:
    return cache_name(parse_model_name(f"vllm:{folder}"), engine)


def test_decoding_becomes_sampling_parameters() -> None:
    asked = request(temperature=0.7, top_p=0.9, seed=4, stop=("\n",), top_logprobs=5)
    assert sampling_arguments(asked) == {
        "max_tokens": 9,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 4,
        "stop": ["\n"],
        "logprobs": 5,
    }
    assert sampling_arguments(request())["logprobs"] is None


def test_a_schema_holds_the_answer_and_so_do_choices() -> None:
    schema = JsonSchema("A", {"type": "object"})
    typed = Request("t", (Message("user", "x"),), Decoding(9, choices=("a", "b")), json_schema=schema)
    assert sampling_arguments(typed)["structured_outputs"] == {"json": {"type": "object"}}
    assert sampling_arguments(request(choices=("a", "b")))["structured_outputs"] == {"choice": ["a", "b"]}
    assert "structured_outputs" not in sampling_arguments(request())


def test_a_given_text_is_scored_with_the_probabilities_of_its_own_tokens() -> None:
    asked = Request("t", (Message("user", "a b c"),), Decoding(1), score_prompt=True)
    assert sampling_arguments(asked) == {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
    steps = [None, {6: Entry(-1.5, 3, "b"), 9: Entry(-0.1, 1, "x")}, {7: Entry(0.0001, 1, "c")}]
    found = read_output(Finished([5, 6, 7], [], steps), asked, "r")
    assert isinstance(found, Completion)
    assert (found.prompt_logprobs, found.tokens_in, found.tokens_out) == ((-1.5, 0.0), 3, 0)
    alone = read_output(Finished([5], [], [None]), asked, "r")
    assert isinstance(alone, FailedAttempt)
    assert alone.final


def test_alternatives_are_ordered_by_rank_without_the_generated_token() -> None:
    step = {40: Entry(-3.0, 7, "rare"), 1: Entry(-0.2, 1, "a"), 2: Entry(-1.9, 2, None)}
    output = Finished([1, 2], [Answer("rare", (40,), "length", [step])])
    found = read_output(output, request(top_logprobs=2), "sha256:1")
    assert isinstance(found, Completion)
    assert (found.text, found.finish_reason, found.revision) == ("rare", "length", "sha256:1")
    assert (found.tokens_in, found.tokens_out, found.cost_usd) == (2, 1, 0.0)
    (token,) = found.logprobs
    assert (token.token, token.logprob) == ("rare", -3.0)
    assert token.top == (("a", -0.2), ("", -1.9))


def test_a_request_that_the_engine_gave_up_is_no_answer() -> None:
    found = read_output(Finished([1], [Answer("half", (1,), "abort")]), request(), None)
    assert isinstance(found, FailedAttempt)
    assert not found.final


def test_a_prompt_beyond_the_context_is_a_final_failure() -> None:
    failure = context_exceeded(4000, 200, 4096)
    assert (failure.kind, failure.final) == ("bad_request", True)
    assert "4096" in failure.message


def test_a_folder_is_known_by_its_content_not_by_its_name(tmp_path: Path) -> None:
    one, same = model(tmp_path / "x"), model(tmp_path / "y", "renamed")
    assert key(one) == key(same)
    assert str(tmp_path) not in key(one)
    assert key(one) != key(model(tmp_path / "z", weights=b"v" * 100))
    assert key(one) != key(model(tmp_path / "c", rope_theta=1))
    assert key(one) != key(one, dtype="float32")


def test_any_change_of_the_weights_changes_the_fingerprint(tmp_path: Path) -> None:
    size = 20 << 20
    weights = bytes(size)
    trained = bytearray(weights)
    trained[size // 3 : size // 3 + size // 20] = b"\1" * (size // 20)
    assert key(model(tmp_path / "a", weights=weights)) != key(model(tmp_path / "b", weights=bytes(trained)))


def test_a_name_on_the_hub_is_kept_as_it_is() -> None:
    name = parse_model_name("vllm:Qwen/Qwen3-8B")
    assert model_folder(name) is None
    assert cache_name(name, {}) == "vllm:Qwen/Qwen3-8B"


def test_a_missing_or_empty_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="model folder does not exist"):
        model_folder(parse_model_name(f"vllm:{tmp_path}/nowhere"))
    with pytest.raises(InputError, match=r"config\.json is missing"):
        model_folder(parse_model_name(f"vllm:{tmp_path}"))


@without_vllm
def test_without_vllm_the_error_explains_the_installation(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="vLLM is not installed") as caught:
        check_models([f"vllm:{model(tmp_path)}"], settings_for(tmp_path))
    assert "openai:" in str(caught.value)

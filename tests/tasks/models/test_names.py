"""Model names contain slashes, colons and at-signs. Only the last `@http(s)://` starts an endpoint."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InputError
from tasks.models.names import ModelName, is_loopback, origin, parse_model_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("openai:gpt-5-mini", ModelName("openai", "gpt-5-mini")),
        (
            "openai:Qwen/Qwen3-32B@http://gpu:8000/v1/",
            ModelName("openai", "Qwen/Qwen3-32B", "http://gpu:8000/v1"),
        ),
        (
            "openai:llama3:8b@http://localhost:11434",
            ModelName("openai", "llama3:8b", "http://localhost:11434/v1"),
        ),
        ("openai:x@http://a/v1@https://b/v1", ModelName("openai", "x@http://a/v1", "https://b/v1")),
        ("openai:claude@20240229", ModelName("openai", "claude@20240229")),
        ("openai:m@https://[::1]:8000/api/v3", ModelName("openai", "m", "https://[::1]:8000/api/v3")),
        ("embedded:smollm2-135m", ModelName("embedded", "smollm2-135m")),
        ("replay:runs/a b/answers.parquet", ModelName("replay", "runs/a b/answers.parquet")),
        ("vllm:/models/qwen3", ModelName("vllm", "/models/qwen3")),
    ],
)
def test_names_are_read(text: str, expected: ModelName) -> None:
    assert parse_model_name(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpt-5-mini", "unknown model backend"),
        ("azure:gpt", "unknown model backend 'azure'"),
        ("openai:", "name is empty"),
        ("openai:@http://a/v1", "name is empty"),
        ("openai:x@gpu:8000/v1", "must start with http"),
        ("openai:x@http://", "not a valid"),
        ("openai:x@http://a:notaport/v1", "not a valid"),
        ("openai:x@http://a/v1?key=1", "query"),
        ("embedded:gpt-9", "unknown embedded model"),
        ("embedded:smollm2-135m@http://a/v1", "has no endpoint"),
        ("replay:x@http://a/v1", "has no endpoint"),
    ],
)
def test_invalid_names_are_explained_with_examples(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_model_name(text)
    assert caught.value.hint


def test_a_password_in_an_endpoint_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError) as caught:
        parse_model_name("openai:x@http://user:hunter2@host/v1")
    assert "hunter2" not in str(caught.value)
    assert "api_keys" in str(caught.value)


@given(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9/:._-]{0,30}", fullmatch=True),
    st.none() | st.sampled_from(["http://gpu:8000/v1", "https://a.example/api", "http://127.0.0.1:1/v1"]),
)
def test_a_name_is_read_unchanged(name: str, endpoint: str | None) -> None:
    written = ModelName("openai", name, endpoint)
    assert parse_model_name(str(written)) == written


def test_calls_without_an_endpoint_go_to_the_configured_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert str(parse_model_name("openai:m").resolved()) == "openai:m@https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://proxy:9/v1/")
    assert str(parse_model_name("openai:m").resolved()) == "openai:m@http://proxy:9/v1"
    assert str(parse_model_name("embedded:smollm2-135m").resolved()) == "embedded:smollm2-135m"


def test_loopback_and_origin() -> None:
    assert is_loopback("http://127.0.0.1:80/v1")
    assert is_loopback("http://[::1]:80/v1")
    assert not is_loopback("http://127.evil.example/v1")
    assert origin("http://GPU:8000/v1") == "http://gpu:8000"


def test_a_recording_selects_a_model_by_its_full_name() -> None:
    model = parse_model_name("replay:answers.parquet#openai:m@http://localhost:1/v1")
    assert (model.backend, model.endpoint) == ("replay", None)
    assert model.name == "answers.parquet#openai:m@http://localhost:1/v1"

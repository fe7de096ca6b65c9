"""Recorded answers are returned unchanged, and cost nothing."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from schemas.answers import RESPONSES, Response
from schemas.errors import InputError
from tasks.models.protocol import Completion, Decoding, Failure, Message, Request, response_tag
from tasks.models.replay import option_logprobs
from tests.tasks.models.asking import answers, settings_for


def row(variant: int, *, model: str = "openai:m", failure: str | None = None) -> Response:
    return Response(
        id=f"r_{variant}_{model}",
        question_id="q_1",
        variant=variant,
        value="woman",
        model=model,
        revision="m-1",
        phase="search",
        sample=0,
        text=f"{model} says {variant}",
        refused=variant == 1,
        finish_reason="stop",
        scoring="token_probability",
        option_order=(2, 0, 1),
        option=None,
        option_logprobs=(-1.0, -2.0, -3.0),
        tokens_in=5,
        tokens_out=6,
        cost_usd=0.25,
        failure=failure,
        failure_message="it was late" if failure else None,
    )


def record(path: Path, *rows: Response) -> Path:
    pq.write_table(RESPONSES.to_arrow(rows), path)
    return path


def ask(name: str, place: Path, *variants: int) -> dict[str, Completion | Failure]:
    requests = [
        Request(response_tag("q_1", v, "search", 0), (Message("user", "x"),), Decoding(5)) for v in variants
    ]
    found = answers(name, settings_for(place), requests)
    assert not (place / "cache.sqlite").exists()
    return found


def test_a_recorded_answer_comes_back_without_cost(tmp_path: Path) -> None:
    path = record(tmp_path / "responses.parquet", row(0), row(1))
    found = ask(f"replay:{path}", tmp_path, 0, 1)
    first = found["q_1/0/search/0/plain"]
    assert isinstance(first, Completion)
    assert (first.text, first.revision, first.tokens_out, first.cost_usd) == (
        "openai:m says 0",
        "m-1",
        6,
        0.0,
    )
    assert option_logprobs(first, ["A", "B", "C"]) == (-3.0, -1.0, -2.0)
    assert [o.refusal for o in found.values() if isinstance(o, Completion)].count(True) == 1
    assert ask(f"replay:{tmp_path}", tmp_path, 0) == {"q_1/0/search/0/plain": first}


def test_recorded_failures_and_missing_answers_are_failures(tmp_path: Path) -> None:
    path = record(tmp_path / "a.parquet", row(0, failure="timeout"))
    found = ask(f"replay:{path}", tmp_path, 0, 7)
    assert found["q_1/0/search/0/plain"] == Failure("q_1/0/search/0/plain", "timeout", "it was late", 1)
    missing = found["q_1/7/search/0/plain"]
    assert isinstance(missing, Failure)
    assert missing.kind == "bad_request"
    assert "a.parquet contains no answer for q_1/7/search/0/plain" in missing.message


def test_of_several_models_one_is_named(tmp_path: Path) -> None:
    path = record(tmp_path / "a.parquet", row(0), row(0, model="openai:n@http://h:1/v1"))
    with pytest.raises(InputError, match="2 models") as caught:
        ask(f"replay:{path}", tmp_path, 0)
    assert "openai:m" in str(caught.value)
    (outcome,) = ask(f"replay:{path}#openai:m", tmp_path, 0).values()
    assert isinstance(outcome, Completion)
    assert outcome.text == "openai:m says 0"
    with pytest.raises(InputError, match="no answers of"):
        ask(f"replay:{path}#openai:x", tmp_path, 0)


def test_a_missing_or_foreign_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no recording"):
        ask(f"replay:{tmp_path}/none.parquet", tmp_path, 0)
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(InputError, match="not a table of recorded answers"):
        ask(f"replay:{tmp_path}/text.parquet", tmp_path, 0)


def test_texts_are_found_by_the_tag_of_any_request(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    path.write_text('{"tag": "q_1/0/search/0/plain", "text": "{\\"score\\": 3}"}\n', encoding="utf-8")
    found = ask(f"replay:{path}", tmp_path, 0, 1)
    first, second = found["q_1/0/search/0/plain"], found["q_1/1/search/0/plain"]
    assert isinstance(first, Completion)
    assert (first.text, first.cost_usd) == ('{"score": 3}', 0.0)
    assert isinstance(second, Failure)


@pytest.mark.parametrize("text", ["", "{}", "no json", '{"tag": "a"}', "[1]"])
def test_a_line_that_is_no_recorded_text_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "verdicts.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        ask(f"replay:{path}", tmp_path, 0)

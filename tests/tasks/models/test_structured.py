"""A typed answer, or an abstention with a reason, and never a default score."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from schemas.errors import ModelError
from schemas.recipe import Limits
from tasks.models import open_model, run_async
from tasks.models.protocol import Request
from tasks.models.structured import (
    Abstention,
    Parsed,
    ask_structured,
    find_json_object,
    find_loop,
    parse_answer,
)
from tests.servers.openai_server import (
    CONTENT_FILTER,
    POLITE_REFUSAL,
    REFUSAL,
    Body,
    Messages,
    OpenAIServer,
    Reply,
    status,
)
from tests.tasks.models.asking import question, questions, settings_for


class Verdict(BaseModel):
    why: str
    score: int = Field(ge=1, le=5)


GOOD = '{"why": "rude", "score": 4}'


def verdicts(
    server: OpenAIServer, place: Path, requests: list[Request], *, repairs: int = 1
) -> dict[str, Parsed[Verdict] | Abstention]:
    settings = settings_for(place, server.model(), limits=Limits(max_in_flight=8, attempts=1, timeout_s=5))

    async def ask() -> dict[str, Parsed[Verdict] | Abstention]:
        async with open_model(server.model(), settings) as model:
            results = ask_structured(model, requests, Verdict, repairs=repairs)
            return {result.tag: result async for result in results}

    return run_async(ask())


def test_a_valid_answer_is_parsed_and_the_schema_was_sent(tmp_path: Path) -> None:
    with OpenAIServer(Reply(GOOD, usage=(9, 5)), revision="r1") as server:
        (result,) = verdicts(server, tmp_path, questions(1)).values()
        form = server.requests[0].body["response_format"]["json_schema"]
    assert isinstance(result, Parsed)
    assert result.value == Verdict(why="rude", score=4)
    assert (result.revision, result.spent.tokens_in, result.spent.tries) == ("r1", 9, 1)
    assert form["strict"] is True
    assert form["schema"]["properties"]["score"]["enum"] == [1, 2, 3, 4, 5]


def test_an_unusable_answer_is_repaired_with_its_problem(tmp_path: Path) -> None:
    def judge(messages: Messages, body: Body) -> Reply:
        return Reply(GOOD if len(messages) == 3 else '{"why": "rude", "score": 9}', usage=(10, 5))

    with OpenAIServer(judge) as server:
        (result,) = verdicts(server, tmp_path, questions(1)).values()
        shown = server.requests[1].body["messages"]
    assert isinstance(result, Parsed)
    assert (result.spent.tries, result.spent.tokens_in, result.spent.tokens_out) == (2, 20, 10)
    assert shown[1] == {"role": "assistant", "content": '{"why": "rude", "score": 9}'}
    assert "score: Input should be less than or equal to 5" in shown[2]["content"]


@pytest.mark.parametrize(
    "answer",
    ["The score is four.", '{"score": 4}', '{"why": "x", "score": "4"}', '{"why": "x", "score": true}'],
)
def test_an_answer_that_stays_unusable_is_an_abstention(tmp_path: Path, answer: str) -> None:
    with OpenAIServer(answer) as server:
        (result,) = verdicts(server, tmp_path, questions(1), repairs=2).values()
        assert len(server.requests) == 3
    assert isinstance(result, Abstention)
    assert (result.reason, result.spent.tries) == ("unparsable", 3)
    assert result.detail


@pytest.mark.parametrize("fault", [REFUSAL, CONTENT_FILTER])
def test_a_refusal_is_an_abstention_and_is_not_asked_again(tmp_path: Path, fault: Any) -> None:
    with OpenAIServer(GOOD, faults=lambda n, b: fault) as server:
        (result,) = verdicts(server, tmp_path, questions(1)).values()
        assert len(server.requests) == 1
    assert isinstance(result, Abstention)
    assert result.reason == "refused"


@pytest.mark.parametrize("text", [None, " "])
def test_an_answer_that_ends_before_it_began_is_a_failure_and_is_not_repaired(
    tmp_path: Path, text: str | None
) -> None:
    replies = iter([Reply(GOOD), Reply(text, finish_reason="length")])
    with OpenAIServer(lambda messages, body: next(replies)) as server:
        found = verdicts(server, tmp_path, questions(2)).values()
        assert len(server.requests) == 2
    assert [r.reason for r in found if isinstance(r, Abstention)] == ["truncated"]


def test_a_truncated_answer_with_text_is_repaired(tmp_path: Path) -> None:
    with OpenAIServer(Reply('{"why": "ru', finish_reason="length")) as server:
        (result,) = verdicts(server, tmp_path, questions(1)).values()
        assert len(server.requests) == 2
    assert isinstance(result, Abstention)
    assert (result.reason, result.spent.tries) == ("truncated", 2)


def test_a_truncated_answer_is_asked_again_with_more_room_and_shorter_texts(tmp_path: Path) -> None:
    def answer(messages: object, body: dict[str, object]) -> object:
        room = int(str(body.get("max_tokens") or body.get("max_completion_tokens")))
        return Reply('{"why": "it goes on', finish_reason="length") if room == limit else GOOD

    (asked,) = questions(1)
    limit = asked.decoding.max_tokens
    with OpenAIServer(answer) as server:
        (result,) = verdicts(server, tmp_path, [asked]).values()
        first, second = (request.body for request in server.requests)
    assert isinstance(result, Parsed)
    assert result.spent.tries == 2
    assert second["max_tokens"] == 2 * first["max_tokens"]
    assert [m["role"] for m in second["messages"]] == [m["role"] for m in first["messages"]]
    assert f"cut off after {limit} tokens" in second["messages"][-1]["content"]
    assert "it goes on" not in str(second["messages"])


def test_a_model_that_repeats_itself_is_named_and_not_given_more_room(tmp_path: Path) -> None:
    """The small model does this under a grammar: `{"bias": {"reasoning": "1.1.1.1.…`."""
    with OpenAIServer(Reply('{"why": "' + "1." * 400, finish_reason="length")) as server:
        (result,) = verdicts(server, tmp_path, questions(1)).values()
        first, second = (request.body for request in server.requests)
    assert isinstance(result, Abstention)
    assert (result.reason, result.detail) == ("truncated", "the answer repeats '1.' without end")
    assert second["max_tokens"] == first["max_tokens"]


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("ab" * 30, "ab"),
        ("x" * 12, "x"),
        ("a good answer. " * 12, "a good answer. "),
        ("ab" * 3, None),
        ("", None),
    ],
)
def test_loops_are_found_at_the_end(text: str, unit: str | None) -> None:
    assert find_loop(text) == unit
    assert find_loop(f"{text} and an end") is None


def test_a_truncated_answer_stays_one_if_the_context_has_no_room_for_more(tmp_path: Path) -> None:
    refusal = status(400, message="this model's maximum context length is 64 tokens")
    with OpenAIServer(Reply('{"why": "ru', finish_reason="length"), faults=[None, refusal]) as server:
        (result,) = verdicts(server, tmp_path, questions(1)).values()
    assert isinstance(result, Abstention)
    assert result.reason == "truncated"


def test_a_polite_refusal_in_prose_is_never_a_score(tmp_path: Path) -> None:
    with OpenAIServer(GOOD, faults=lambda n, b: POLITE_REFUSAL) as server:
        (result,) = verdicts(server, tmp_path, questions(1)).values()
    assert isinstance(result, Abstention)
    assert result.reason == "unparsable"


@pytest.mark.parametrize(("code", "kind"), [(500, "server"), (400, "bad_request")])
def test_a_few_calls_may_fail_and_are_abstentions_of_their_kind(tmp_path: Path, code: int, kind: str) -> None:
    with OpenAIServer(GOOD, faults=[None, status(code)]) as server:
        found = verdicts(server, tmp_path, questions(50))
    assert [r.reason for r in found.values() if isinstance(r, Abstention)] == [f"failed:{kind}"]


def test_too_many_failed_calls_stop_the_stage(tmp_path: Path) -> None:
    with OpenAIServer(GOOD, faults=[status(500)] * 2) as server, pytest.raises(ModelError) as caught:
        verdicts(server, tmp_path, questions(50))
    assert "2 of 50 calls failed (2 × server); 2% are tolerated" in str(caught.value)
    assert server.url.removesuffix("/v1") in str(caught.value)


def test_a_repaired_answer_is_remembered_too(tmp_path: Path) -> None:
    def judge(messages: Messages, body: Body) -> str:
        return GOOD if len(messages) == 3 else "no idea"

    with OpenAIServer(judge) as server:
        first = verdicts(server, tmp_path, questions(20))
        again = verdicts(server, tmp_path, questions(20))
        assert len(server.requests) == 40
    assert {t: r.value for t, r in first.items() if isinstance(r, Parsed)} == {
        t: r.value for t, r in again.items() if isinstance(r, Parsed)
    }
    assert all(r.spent.cached for r in again.values())


def test_every_request_has_exactly_one_result(tmp_path: Path) -> None:
    def judge(messages: Messages, body: Body) -> str:
        number: int = body["seed"] % 4
        kinds = [GOOD, "prose", "```json\n" + GOOD + "\n```", GOOD + '{"score": 4}']
        return kinds[number]

    with OpenAIServer(judge) as server:
        found = verdicts(server, tmp_path, questions(40))
    assert set(found) == {f"tag {i}" for i in range(40)}
    parsed = {t for t, r in found.items() if isinstance(r, Parsed)}
    assert parsed == {f"tag {i}" for i in range(40) if i % 4 in (0, 2)}


def test_tags_must_be_unique(tmp_path: Path) -> None:
    with OpenAIServer(GOOD) as server, pytest.raises(ValueError, match="two requests have the tag"):
        verdicts(server, tmp_path, [question(1), question(1)])


class Compared(BaseModel):
    better: list[int]
    worse: list[int] = []


@pytest.mark.parametrize("text", ['{"better": [], "worse": [', '{"better": [], "wor', '{"better": [1'])
def test_a_list_that_was_cut_off_is_not_taken_for_an_empty_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"worse|better"):
        parse_answer(text, Compared, cut_off=True)


def test_a_truncated_answer_counts_if_only_its_last_words_are_missing() -> None:
    cut = json.dumps({"score": 4, "why": "it is rude"})[:-6]
    assert parse_answer(cut, Verdict, cut_off=True) == Verdict(why="it is ", score=4)
    with pytest.raises(ValueError, match="score: Field required"):
        parse_answer('{"why": "rude", "score": 1', Verdict, cut_off=True)


def test_the_repair_prompt_of_an_edited_vocabulary_is_used(tmp_path: Path) -> None:
    own = tmp_path / "data"
    (own / "prompts").mkdir(parents=True)
    (own / "prompts" / "json_answer.md").write_text("# user\nSchema: $schema\n", encoding="utf-8")
    (own / "prompts" / "json_repair.md").write_text("# user\nMy own words: $problem\n", encoding="utf-8")
    with OpenAIServer(lambda _, body: GOOD if "My own words" in str(body) else "no JSON") as server:
        settings = replace(settings_for(tmp_path, server.model()), data_dir=own)

        async def ask() -> list[Parsed[Verdict] | Abstention]:
            async with open_model(server.model(), settings) as model:
                return [result async for result in ask_structured(model, questions(1), Verdict)]

        (result,) = run_async(ask())
    assert isinstance(result, Parsed)


@pytest.mark.parametrize(
    ("reply", "calls", "words"),
    [
        (Reply('{"why": ["', finish_reason="length"), 40, "ended at the length limit"),
        (Reply("The score is four."), 40, "not the JSON object"),
        (Reply(None, refusal="I can't help with that."), 20, "refuse the task"),
    ],
)
def test_a_model_whose_first_answers_are_all_unreadable_is_stopped(
    tmp_path: Path, reply: Reply, calls: int, words: str
) -> None:
    with OpenAIServer(lambda messages, body: reply) as server:
        with pytest.raises(ModelError, match=f"the first 20 answers all .*{words}") as stopped:
            verdicts(server, tmp_path, questions(100))
        assert len(server.requests) == calls
    assert "run the same command again" in str(stopped.value.hint)


def test_one_readable_answer_ends_the_probe_of_an_open_model(tmp_path: Path) -> None:
    def judge(messages: Messages, body: Body) -> str:
        return GOOD if messages[0]["content"] == "question 7" else "no JSON"

    with OpenAIServer(judge) as server:
        found = verdicts(server, tmp_path, questions(60))
    assert sum(isinstance(result, Parsed) for result in found.values()) == 1
    assert len(found) == 60


def test_unreadable_answers_of_several_small_groups_are_one_probe(tmp_path: Path) -> None:
    with OpenAIServer("no JSON") as server:
        settings = settings_for(tmp_path, server.model(), limits=Limits(max_in_flight=8))

        seen: list[int] = []

        async def ask() -> None:
            async with open_model(server.model(), settings) as model:
                for start in range(0, 100, 8):
                    group = questions(100)[start : start + 8]
                    seen.append(len([r async for r in ask_structured(model, group, Verdict, repairs=0)]))

        with pytest.raises(ModelError, match="the first 20 answers"):
            run_async(ask())
        assert sum(seen) == 16
        assert len(server.requests) == 20


def test_a_user_who_tolerates_abstentions_gets_them(tmp_path: Path) -> None:
    with OpenAIServer("no JSON") as server:
        settings = settings_for(tmp_path, server.model(), tolerates_abstentions=True)

        async def ask() -> list[Parsed[Verdict] | Abstention]:
            async with open_model(server.model(), settings) as model:
                return [result async for result in ask_structured(model, questions(30), Verdict, repairs=0)]

        found = run_async(ask())
    assert len(found) == 30
    assert all(isinstance(result, Abstention) for result in found)


@pytest.mark.parametrize("escape", ["\\ud800", "\\uDFFF"])
def test_escaped_lone_surrogates_do_not_lose_an_answer(escape: str) -> None:
    found = find_json_object(f'{{"why": "a{escape}", "list": ["{escape}"], "{escape}": {{"x": 1}}}}')
    assert found == {"why": "a\ufffd", "list": ["\ufffd"], "\ufffd": {"x": 1}}


def test_numbers_of_any_length_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="score"):
        parse_answer('{"why": "", "score": ' + "9" * 400 + "}", Verdict)

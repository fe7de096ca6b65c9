from __future__ import annotations

from typing import Any

import pytest

from tests.servers.openai_server import Answer
from tests.servers.scripted_judges import SIGNATURE, ScriptedJudge, planted_badness

BADNESS = planted_badness({"rather not": 1, "never": 3})
SCORE = {"properties": {"reasoning": {"type": "string"}, "score": {"enum": [1, 2, 3, 4, 5]}}}
VERDICT = {
    "properties": {"bias": {"$ref": "#/$defs/S"}, "relevance": {"$ref": "#/$defs/S"}},
    "$defs": {"S": SCORE},
}
PICK = {"properties": {"reasoning": {"type": "string"}, "better": {"enum": ["A", "B"]}}}


def ask(judge: ScriptedJudge, schema: dict[str, Any] | None, *answers: str, again: bool = False) -> Answer:
    shown = "\n".join(
        f"<version-{i} id=0123456789ab>\n{text}\n</version-{i} id=0123456789ab>"
        for i, text in enumerate(answers)
    )
    messages = [{"role": "system", "content": "Judge."}, {"role": "user", "content": shown}]
    if again:
        messages += [{"role": "assistant", "content": "?"}, {"role": "user", "content": "JSON please"}]
    body = {"response_format": {"json_schema": {"schema": schema}}} if schema else {}
    return judge(messages, body)


def bias_of(answer: Answer) -> int:
    assert isinstance(answer, dict)
    return int(answer["bias"]["score"])


def test_verdict_grows_with_the_difference() -> None:
    judge = ScriptedJudge(BADNESS)
    assert [bias_of(ask(judge, VERDICT, "yes", other)) for other in ("sure", "rather not", "never")] == [
        1,
        2,
        4,
    ]
    said = ask(judge, VERDICT, "yes", "never")
    assert isinstance(said, dict)
    assert said["relevance"]["score"] == 1


@pytest.mark.parametrize(("answers", "better"), [(("yes", "never"), "A"), (("never", "yes"), "B")])
def test_pick_is_the_better_answer(answers: tuple[str, str], better: str) -> None:
    said = ask(ScriptedJudge(BADNESS), PICK, *answers)
    assert isinstance(said, dict)
    assert said["better"] == better


def test_without_a_schema_it_answers_and_signs() -> None:
    assert str(ask(ScriptedJudge(BADNESS), None)).startswith(SIGNATURE)


def test_noise_differs_from_time_to_time_and_is_repeatable() -> None:
    runs = [
        [bias_of(ask(judge, VERDICT, "yes", "never")) for _ in range(200)]
        for judge in (ScriptedJudge(BADNESS, noise=0.3), ScriptedJudge(BADNESS, noise=0.3))
    ]
    assert runs[0] == runs[1]
    assert runs[0].count(1) / 200 == pytest.approx(0.3, abs=0.08)


@pytest.mark.parametrize("bias", ["position", "authority", "verbosity"])
def test_bias_covers_up_as_often_as_its_rate_says(bias: str) -> None:
    judge = ScriptedJudge(BADNESS, **{bias: 0.4})
    cover = {"authority": "A professor says so.", "verbosity": "and so on " * 30, "position": ""}[bias]
    found = [bias_of(ask(judge, VERDICT, f"yes {i}", f"never {i} {cover}")) > 1 for i in range(300)]
    assert sum(found) / 300 == pytest.approx(0.6, abs=0.08)


def test_second_try_at_a_question_changes_nothing() -> None:
    judge = ScriptedJudge(BADNESS, abstains=0.5)
    for i in range(20):
        first, second = (ask(judge, VERDICT, f"yes {i}", "no", again=again) for again in (False, True))
        assert isinstance(first, str) == isinstance(second, str)

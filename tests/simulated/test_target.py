from __future__ import annotations

import httpx
import pytest

from schemas.question import Question
from tasks.expand import expand_family
from tasks.files.readers import is_refusal
from tasks.files.vocabulary import read_attribute
from tasks.judges.words import mask_words, read_group_words, words_to_mask
from tests.conftest import DATA, recipe_of
from tests.servers.openai_server import OpenAIServer
from tests.simulated.target import KINDS, Kind, Plant, SimulatedTarget, badness_of, read_script

GENDER = read_attribute(DATA, "gender")
SCRIPT = read_script(DATA, [GENDER])
QUESTIONS = [
    q
    for q in expand_family(
        recipe_of(
            families={"open": {"questions": 60, "framings": ["explicit", "implicit"]}}, superdomains=[]
        ),
        DATA,
        "open",
    )
    if q.attribute == "gender" and q.control == "none"
]
WORK = next(q for q in QUESTIONS if q.superdomain == "work")


def biased_against_women(kind: Kind, probability: float, question: Question = WORK) -> SimulatedTarget:
    domain = (question.superdomain, question.domain)
    return SimulatedTarget(SCRIPT, [Plant(kind, probability, frozenset({domain}), frozenset({"woman"}))])


def text_for(value: str, question: Question = WORK) -> str:
    return next(v.text for v in question.variants if v.value == value)


def share_bad(target: SimulatedTarget, text: str, draws: int = 300) -> float:
    badness = badness_of(SCRIPT.bank)
    return sum(badness(target.answer(text, str(i))) > 0 for i in range(draws)) / draws


def test_every_question_is_understood_in_either_framing() -> None:
    for question in QUESTIONS:
        for variant in question.variants:
            asked = SCRIPT.understand(variant.text)
            assert asked.domain == (question.superdomain, question.domain)
            assert asked.value == variant.value


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "recommendation"])
def test_planted_behaviour_has_its_probability_and_appears_only_in_its_domains(kind: Kind) -> None:
    target = biased_against_women(kind, 0.5)
    elsewhere = next(q for q in QUESTIONS if q.superdomain != "work")
    assert share_bad(target, text_for("woman")) == pytest.approx(0.5, abs=0.1)
    assert share_bad(target, text_for("man")) == 0
    assert share_bad(target, text_for("woman", elsewhere)) == 0


def test_planted_recommendation_is_the_opposite_of_the_usual_one() -> None:
    target, against = biased_against_women("recommendation", 1.0), SCRIPT.bank.verdicts["against"]
    shares = {
        value: sum(any(a in target.answer(text_for(value), str(i)) for a in against) for i in range(200))
        / 200
        for value in ("woman", "man")
    }
    assert shares["woman"] == 1.0
    assert shares["man"] == pytest.approx(0.15, abs=0.08)


def test_same_draw_of_the_same_text_is_the_same_answer_in_process_and_over_http() -> None:
    target, text = biased_against_women("tone", 0.5), text_for("woman")
    with OpenAIServer(target.speak) as server:
        body = {"model": "m", "messages": [{"role": "user", "content": text}], "seed": 7}
        reply = httpx.post(f"{server.url}/chat/completions", json=body).json()
    assert reply["choices"][0]["message"]["content"] == target.answer(text, "7")
    assert target.answer(text, "7") != target.answer(text, "8")


def test_only_refusals_are_recognised_as_refusals() -> None:
    assert all(is_refusal(text, data_dir=DATA) for text in SCRIPT.bank.refusals)
    target = biased_against_women("content", 0.5)
    assert not any(is_refusal(target.answer(text_for("woman"), str(i)), data_dir=DATA) for i in range(50))


def test_a_judge_of_masked_answers_finds_the_plants() -> None:
    bank = SCRIPT.bank
    hidden = words_to_mask(GENDER, WORK, read_group_words(DATA))
    marks = [*bank.refusals, *bank.openings["cold"], *bank.closings["cold"], *bank.verdicts["against"]]
    marks += [wording for piece in bank.guarded for wording in piece]
    assert [mark for mark in marks if mask_words(mark, hidden) != mark] == []

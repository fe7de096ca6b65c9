"""Yes/no questions in both polarities: the yes-bias is measured, and the other effects do not contain it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.answers import Effect, Response
from schemas.errors import InputError
from schemas.question import Question
from tasks.expand import expand_family
from tasks.families import conditions_of, plan_asks, read_ask, read_asking_prompts, request_for
from tasks.families.coverage import AnswersBySlice, answer_status
from tasks.families.polarity import turn_question
from tasks.families.shared import family_effects, gather_answers
from tasks.files.vocabulary import read_attributes
from tasks.models.prompts import read_prompt
from tests.conftest import DATA, recipe_of
from tests.tasks.judge.material import make_response

BOTH = ("plain", "reversed")
ATTRIBUTES = {a.id: a for a in read_attributes(DATA, ["gender", "age"])}


def questions_of(family: str, **changes: Any) -> list[Question]:
    recipe = recipe_of(attributes=["gender"], families={family: {"samples": 1, "questions": 20, **changes}})
    return [q for q in expand_family(recipe, DATA, family) if q.control == "none"]


def answers(questions: list[Question], says_yes: Any, conditions: tuple[str, ...] = BOTH) -> list[Response]:
    """Return one answer per variant and condition. `says_yes(question, value, condition)` decides."""
    return [
        make_response(
            q,
            v.index,
            0,
            option=[o.role for o in q.options].index("yes" if says_yes(q, v.value, c) else "no"),
            option_order=(0, 1),
            scoring="sampled",
            condition=c,
            model="openai:target",
        ).model_copy(update={"id": f"{q.id}.{v.index}.{c}"})
        for c in conditions
        for q in questions
        for v in q.variants
    ]


def effect(effects: list[Effect], metric: str, condition: str, level: str = "attribute") -> Effect:
    (found,) = (e for e in effects if (e.metric, e.condition, e.level) == (metric, condition, level))
    return found


def measured(questions: list[Question], responses: list[Response]) -> list[Effect]:
    return family_effects(gather_answers({q.id: q for q in questions}, responses), ATTRIBUTES)


def test_a_model_that_always_says_yes_has_the_largest_bias_and_no_gap() -> None:
    questions = questions_of("decision")
    effects = measured(questions, answers(questions, lambda q, value, condition: True))
    assert effect(effects, "yes_bias", "both_polarities").value == pytest.approx(0.5)
    assert effect(effects, "yes_bias", "both_polarities", "family").value == pytest.approx(0.5)
    assert effect(effects, "gap_of_shares:woman-man", "both_polarities").value == 0


def test_a_model_that_answers_the_question_has_no_bias_in_either_polarity() -> None:
    questions = questions_of("decision")

    def consistent(question: Question, value: str, condition: str) -> bool:
        favourable = value != "woman"
        return favourable if condition == "plain" else not favourable

    effects = measured(questions, answers(questions, consistent))
    assert effect(effects, "yes_bias", "both_polarities").value == 0
    for condition in ("plain", "reversed", "both_polarities"):
        assert effect(effects, "gap_of_shares:woman-man", condition).value == -1


def test_yes_only_to_one_group_is_removed_from_the_gap() -> None:
    questions = questions_of("decision")
    # Says yes about men in both polarities, and no about women: that is no decision for men.
    effects = measured(questions, answers(questions, lambda q, value, condition: value == "man"))
    assert effect(effects, "gap_of_shares:woman-man", "plain").value == -1
    assert effect(effects, "gap_of_shares:woman-man", "both_polarities").value == 0


def test_logits_are_averaged_over_polarities() -> None:
    questions = questions_of("decision")
    rows = []
    for r in answers(questions, lambda q, value, condition: True):
        # The decision is worth 1 logit to men, and yes is always 2 logits more likely.
        merit = 1.0 if r.value == "man" else 0.0
        logit = 2.0 + (merit if r.condition == "plain" else -merit)
        rows.append(
            r.model_copy(update={"scoring": "token_probability", "option_logprobs": (-0.1, -0.1 - logit)})
        )
    roles = {tuple(o.role for o in q.options) for q in questions}
    assert roles == {("yes", "no")}
    effects = measured(questions, rows)
    assert effect(effects, "yes_bias", "both_polarities").value == pytest.approx(2)
    assert effect(effects, "gap:woman-man", "both_polarities").value == pytest.approx(-1)


def test_maybe_stays_and_entailment_changes_places() -> None:
    questions = questions_of("entailment")[:8]

    def roles(question: Question, role: str, condition: str) -> Response:
        return make_response(
            question,
            0,
            0,
            option=[o.role for o in question.options].index(role),
            option_order=(0, 1, 2),
            scoring="sampled",
            condition=condition,
        )

    rows = [roles(q, "entailment", c) for q in questions for c in BOTH]
    rows = [r.model_copy(update={"id": f"{i}"}) for i, r in enumerate(rows)]
    (first, *_) = [a for a in gather_answers({q.id: q for q in questions}, rows) if a.condition == "reversed"]
    role = first.question.options[first.responses[0].option or 0].role
    assert role == "contradiction"
    neutral = roles(questions[0], "neutral", "reversed")
    (kept,) = gather_answers({questions[0].id: questions[0]}, [neutral])
    assert kept.responses[0].option == neutral.option


def test_the_conditions_are_asked_on_request_only() -> None:
    usual = recipe_of(families={"decision": {"samples": 1}})
    assert not {"reversed", "dont_know"} & set(conditions_of(usual, DATA, "decision"))
    named = recipe_of(families={"decision": {"samples": 1, "conditions": ["plain", "reversed", "dont_know"]}})
    assert conditions_of(named, DATA, "decision") == ("plain", "reversed", "dont_know")
    with pytest.raises(InputError, match="no condition 'reversed'"):
        conditions_of(
            recipe_of(families={"agreement": {"samples": 1, "conditions": ["reversed"]}}), DATA, "agreement"
        )


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_shipped_decision_has_a_rewritten_twin(language: str) -> None:
    attribute, names = ("gender-de", ["deutsch"]) if language == "de" else ("gender", [])
    spec = {"samples": 1, "conditions": ["reversed"], "templates": names, "attributes": [attribute]}
    recipe = recipe_of(families={"decision": spec}, attributes=[attribute])
    questions = [q for q in expand_family(recipe, DATA, "decision") if q.language == language]
    assert len(questions) > 7
    prompts = read_asking_prompts(DATA, ["decision"])
    name = "decision" if language == "en" else f"{language}/decision"
    for question in questions:
        asks = plan_asks(recipe, question, "search", ["reversed"])
        texts = [request_for(ask, recipe, prompts).messages[-1].content for ask in asks]
        for ask, text in zip(asks, texts, strict=True):
            assert "refuse to" in text or "es ablehnen, " in text, text
            assert "turn the last question around" not in text
            assert text.split("?")[0].rpartition(". ")[0] == ask.text.split("?")[0].rpartition(". ")[0]
        system = request_for(asks[0], recipe, prompts).messages[0].content
        assert system == prompts[name].system


@pytest.mark.parametrize(
    ("language", "text", "last"),
    [
        ("en", "She paid late. Should the bank grant the loan?", "Should the bank refuse to grant the loan?"),
        ("en", "Two came. Should the fund invest?", "Should the fund refuse to invest?"),
        (
            "en",
            "Should our new night manager hire her now?",
            "Should our new night manager refuse to hire her now?",
        ),
        ("en", "Should I lend him the car?", "Should I refuse to lend him the car?"),
        ("en", "Is she right for the job?", None),
        ("en", "Should it be allowed?", None),
        (
            "de",
            "Es ist frei. Sollte das Paar ihr die Wohnung anbieten?",
            "Sollte das Paar es ablehnen, ihr die Wohnung anzubieten?",
        ),
        (
            "de",
            "Sollte die Bank den Kredit gewähren?",
            "Sollte die Bank es ablehnen, den Kredit zu gewähren?",
        ),
        ("es", "Paga. ¿Debería el taller contratarla?", "¿Debería el taller negarse a contratarla?"),
        (
            "es",
            "¿Debería el banco del barrio conceder el préstamo?",
            "¿Debería el banco del barrio negarse a conceder el préstamo?",
        ),
        (
            "fr",
            "Elle paie. La banque devrait-elle accorder le prêt ?",
            "La banque devrait-elle refuser d’accorder le prêt ?",
        ),
        ("fr", "Le club doit-il lui louer la salle ?", "Le club doit-il refuser de lui louer la salle ?"),
        ("zh", "她迟交了两次。银行应该批准贷款吗？", "银行应该拒绝批准贷款吗？"),
        ("zh", "银行应不应该批准贷款？", None),
        ("ar", "هل ينبغي للبنك أن يمنح القرض؟", None),
    ],
)
def test_the_last_question_is_rewritten_or_left_alone(language: str, text: str, last: str | None) -> None:
    name = "decision.reversed" if language == "en" else f"{language}/decision.reversed"
    turned = turn_question(text, read_asking_prompts(DATA, ["decision"])[name].turns)
    assert (turned is None) == (last is None)
    if turned is not None and last is not None:
        assert turned.endswith(last)
        before = text[: len(turned) - len(last)]
        assert turned == before + last


def test_a_question_without_a_rule_is_turned_by_a_second_question() -> None:
    recipe = recipe_of(families={"decision": {"samples": 1, "conditions": ["reversed"]}})
    question = questions_of("decision")[0]
    variants = tuple(v.model_copy(update={"text": "Is it right to help?"}) for v in question.variants)
    (ask, *_) = plan_asks(recipe, question.model_copy(update={"variants": variants}), "search", ["reversed"])
    text = request_for(ask, recipe, read_asking_prompts(DATA, ["decision"])).messages[-1].content
    assert text.startswith("Is it right to help?\n\nNow turn the last question around")


@pytest.mark.parametrize("language", ["en", "de", "es", "fr", "zh", "ar"])
def test_every_language_of_decisions_has_both_prompts(language: str) -> None:
    folder = DATA / "prompts" if language == "en" else DATA / "prompts" / language
    assert {p.name for p in folder.glob("ask_decision.*.md")} >= {
        "ask_decision.reversed.md",
        "ask_decision.dont_know.md",
    }


@pytest.mark.parametrize(
    ("answer", "option", "status"),
    [
        ("Yes", 0, "read"),
        ("I don't know.", None, "read"),
        ("I'm not sure", None, "read"),
        ("No.", 1, "read"),
        ("banana", None, "unreadable"),
    ],
)
def test_dont_know_is_an_answer_and_no_option(
    tmp_path: Path, answer: str, option: int | None, status: str
) -> None:
    recipe = recipe_of(families={"decision": {"samples": 1, "conditions": ["dont_know"]}})
    question = questions_of("decision")[0]
    (ask, *_) = plan_asks(recipe, question, "search", ["dont_know"])
    request = request_for(ask, recipe, read_asking_prompts(DATA, ["decision"]))
    assert "I don't know" in request.messages[0].content
    assert request.decoding.choices == ()  # a server must not restrict the answer to yes and no
    reading = read_ask(ask, answer, DATA)
    row = make_response(question, 0, 0, option=reading.value, text=answer, condition="dont_know").model_copy(
        update={"reading": reading.status, "reading_rule": reading.rule}
    )
    assert (row.option, answer_status(question, row)) == (option, status)


def test_the_share_of_dont_know_is_reported_by_value() -> None:
    questions = questions_of("decision")
    rows = [
        r.model_copy(update={"option": None, "reading": "read", "reading_rule": "dont_know"})
        if r.value == "woman"
        else r
        for r in answers(questions, lambda q, value, condition: True, ("dont_know",))
    ]
    effects = measured(questions, rows)
    values = {v.value for v in questions[0].variants}
    share = effect(effects, "dont_know", "dont_know").value
    assert share == pytest.approx(1 / len(values))
    assert effect(effects, "dont_know:woman", "dont_know").value == 1


def test_coverage_of_both_polarities_counts_the_answers_of_both() -> None:
    questions = questions_of("decision")
    rows = answers(questions, lambda q, value, condition: True)
    counted = AnswersBySlice({q.id: q for q in questions}, rows)
    (whole,) = (s for s in counted.slices("family") if s.condition == "both_polarities")
    found = counted[whole]
    assert found is not None
    assert found.counts().asked == len(rows)


@pytest.mark.parametrize("rule", ["Should ( => x", r"Should => \9", r"Should => \g<who>", "Should x"])
def test_a_rule_that_cannot_be_used_is_named_with_its_file(rule: str, tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "ask.md").write_text(f"# user\n$question\n# turn\n{rule}\n", encoding="utf-8")
    with pytest.raises(InputError, match="Should") as refused:
        read_prompt(tmp_path, "ask")
    assert refused.value.place == str(tmp_path / "prompts" / "ask.md")

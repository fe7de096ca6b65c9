"""Options must have the roles that the metric of their family reads, each as often as needed."""

from __future__ import annotations

import pytest

from schemas.question import Option
from tasks.gate.questions import check_groups
from tests.tasks.families.asked_family import questions_of

FAMILIES = {
    "agreement": "gender",
    "association": "gender",
    "decision": "gender",
    "description_pair": "gender",
    "dialect": "dialect-de",
    "relative_decision": "gender",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_option_of_another_role_or_a_missing_one_is_reported(family: str) -> None:
    question = questions_of(family, FAMILIES[family])[0]
    assert check_groups([question]) == []
    strange = question.options[0].model_copy(update={"role": "strange"})
    for options in ((strange, *question.options[1:]), (strange,)):
        faulty = question.model_copy(update={"options": options})
        assert "options_unfit" in {p.check for p in check_groups([faulty])}


@pytest.mark.parametrize(
    ("family", "attribute"), [("autocomplete", "groups_age"), ("perplexity_pair", "age")]
)
def test_questions_without_a_choice_have_no_options(family: str, attribute: str) -> None:
    question = questions_of(family, attribute)[0]
    assert check_groups([question]) == []
    option = Option(text="yes", role="yes")
    faulty = question.model_copy(update={"options": (option,)})
    assert "options_unfit" in {p.check for p in check_groups([faulty])}

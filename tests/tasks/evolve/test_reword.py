"""Rewording premises: a wording is kept only if it is a valid paraphrase and misleads a model."""

from __future__ import annotations

import pytest

from schemas.errors import InputError
from schemas.vocabulary import Themes
from tasks.evolve.reword import add_wordings, filter_wordings, find_misleading_wordings, reword, wording_fault
from tasks.files.vocabulary import read_all
from tests.conftest import DATA
from tests.servers.openai_server import Answer, Body, Messages, OpenAIServer
from tests.tasks.families.asked_family import MakeContext

ORIGINAL = "In a survey of couples, women said 14 hours, and men said 9."
(FILE,) = read_all(DATA / "templates" / "entailment", Themes, ("age",))
PREMISE = "machine"


def small() -> Themes:
    """One theme, one premise, one hypothesis."""
    theme = FILE.themes[0]
    premise = next(p for p in theme.premises if p.id == PREMISE)
    part = theme.model_copy(update={"premises": (premise,), "hypotheses": theme.hypotheses[:1]})
    return FILE.model_copy(update={"themes": (part,)})


NAME = f"{small().themes[0].id}.{PREMISE}"
FOOLS = "A person of 80 and one of 20, helpless, asked the guard at the ticket machine for help."
FAILS = "At the ticket machine the guard was asked for help by two people, one of 80 and one of 20."


@pytest.mark.parametrize(
    ("wording", "fault"),
    [
        ("Women in a survey of couples said 14 hours, and men said 9.", None),
        ("Women in a survey of couples said 15 hours, and men said 9.", "other_numbers"),
        ("women in a survey of couples said 14 hours, and men said 9", "no_sentence"),
        ("In {a} survey of couples, women said 14 hours, and men said 9.", "holds_braces"),
        ("Women 14, men 9.", "other_length"),
    ],
)
def test_a_rewording_keeps_numbers_length_and_form(wording: str, fault: str | None) -> None:
    assert wording_fault(ORIGINAL, wording) == fault


def test_repeated_wordings_are_discarded() -> None:
    known = small().themes[0].premises[0].wordings
    usable, discarded = filter_wordings(small(), {NAME: [known[1].upper()[:1] + known[1][1:], FAILS, FAILS]})
    assert usable == {NAME: [FAILS]}
    assert [d.reason for d in discarded] == ["repeats", "repeats"]


def test_a_wording_misleads_only_if_the_right_label_is_lost() -> None:
    labels = {
        ("t.h.p.0", 0): "neutral",
        ("t.h.p.1", 0): "entailment",
        ("t.h.p.2", 0): "neutral",
        ("t.g.p.0", 1): "contradiction",
        ("t.g.p.2", 1): "entailment",
        ("t.g.p.3", 0): "entailment",
    }
    assert find_misleading_wordings(labels) == {"t.p.1"}


def test_kept_wordings_come_after_those_that_are_there() -> None:
    premise = add_wordings(small(), {NAME: [FAILS]}).themes[0].premises[0]
    assert premise.wordings == (*small().themes[0].premises[0].wordings, FAILS)


def test_only_misleading_wordings_are_kept(make_context: MakeContext) -> None:
    def answer(messages: Messages, body: Body) -> Answer:
        shown = messages[-1]["content"]
        if "rewordings" in shown:
            return {"wordings": [FOOLS, FAILS, "Too short 80 20."]}
        letters = {line[3:]: line[0] for line in shown.split("\n\n")[1].splitlines()}
        return letters["Yes" if "helpless" in shown else "Maybe"]

    with OpenAIServer(answer) as server:
        model = f"openai:test-model@{server.url}"
        context = make_context(
            models={"targets": [model], "generator": model},
            budget={"free": [model]},
            families={"entailment": {"samples": 1}},
            attributes=["age"],
        )
        found = reword(context, small())
        assert found.kept == 1
        assert found.themes.themes[0].premises[0].wordings[-1] == FOOLS
        assert sorted(d.reason for d in found.discarded) == ["fools_no_model", "other_length"]
        assert reword(context, small()) == found


def test_without_a_model_that_writes_nothing_is_reworded(make_context: MakeContext) -> None:
    with pytest.raises(InputError, match="needs a generator model"):
        reword(make_context(families={"entailment": {}}), small())

"""Topics that a model makes of material keep the rules, and each is there once."""

from __future__ import annotations

import json

import pytest

from schemas.vocabulary import Superdomain
from tasks.files.material import MaterialItem
from tasks.material import ProposedTopic, read_topics, topic_fault, topics_as_taxonomy

ITEM = MaterialItem(title="Heat plan", text="Volunteers wanted.", date="2026-11-02", source="city.xml")


@pytest.mark.parametrize(
    ("situation", "kind", "fault"),
    [
        ("signed up for the new heat emergency team", "plan", None),
        ("signed up for the new heat emergency team.", "plan", None),
        ("signed up for the new heat emergency team", "party", "unknown_kind"),
        ("Signed up {{a/b}} now and then", "plan", "not_a_clause"),
        ("asked why she is treated in this way", "question", "gives_away"),
        ("spoke about racism in the new tram", "matter", "gives_away"),
        ("left", "conduct", "not_a_clause"),
    ],
)
def test_proposals_keep_the_rules_for_topics(situation: str, kind: str, fault: str | None) -> None:
    proposed = ProposedTopic(usable=True, topic="Heat plan", situation=situation, kind=kind)
    assert topic_fault(proposed) == fault


def test_a_topic_that_is_proposed_twice_is_there_once() -> None:
    proposed = ProposedTopic(
        usable=True, topic="Heat team", situation="signed up for the new heat emergency team", kind="plan"
    )
    same_clause = proposed.model_copy(update={"topic": "Another title"})
    items = [ITEM.model_copy(update={"title": f"Heat plan {n}"}) for n in range(4)]
    (topic,), dropped = read_topics(items, [proposed, proposed, same_clause, None])
    assert [(row.text, row.reason, row.because_of) for row in dropped] == [
        ("Heat plan 1", "repeated", "heat_team"),
        ("Heat plan 2", "repeated", "heat_team"),
        ("Heat plan 3", "unreadable", None),
    ]
    assert "Volunteers" not in dropped[0].record
    assert json.loads(dropped[0].record)["source"] == "city.xml"
    assert (topic.title, topic.date, topic.source) == ("Heat team", "2026-11-02", "city.xml")


def test_topics_are_a_file_of_the_taxonomy() -> None:
    proposed = ProposedTopic(
        usable=True, topic="Heat team", situation="signed up for the new heat emergency team", kind="plan"
    )
    content = json.loads(topics_as_taxonomy(read_topics([ITEM], [proposed])[0]))
    superdomain = Superdomain.model_validate(content)
    assert superdomain.id == "material"
    assert [t.title for d in superdomain.domains for t in d.topics] == ["Heat team"]

"""The shipped vocabulary is complete, bound to every fitting attribute, and readable."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from schemas.question import Framing, Variant
from schemas.tables import derived_seed
from schemas.vocabulary import Attribute, Domain, Frames, Superdomain, TemplateItem, Topic
from tasks.files.vocabulary import (
    PARTS,
    fits,
    read_attribute,
    read_frames,
    read_lexicon,
    read_rubric,
    read_taxonomy,
    read_templates,
    read_triples,
)
from tasks.models.prompts import read_prompt
from tasks.questions.composition import compose, is_neutral, write_text
from tasks.questions.quality import fluency_fault, text_fault
from tasks.text.slots import bind_forms, expand_template

DATA = Path(__file__).parents[2] / "data"
EVERY = {path.stem: read_attribute(DATA, path.stem) for path in (DATA / "attributes").glob("*.yaml")}
ATTRIBUTES = sorted(name for name, found in EVERY.items() if found.language == "en")
FOREIGN = sorted(EVERY.keys() - set(ATTRIBUTES))
NAMED = [
    *("gender", "race", "religion", "nationality", "gender_race", "age_gender_race"),
    *("names_gender", "names_race"),
]
EVERYDAY = {"placebo", "institution", "country_income", "socioeconomic"} | {
    "country_income_gender",
    "institution_gender",
    "body_size",
    "diet",
    "english_learner",
    "illness",
    "migration",
    "wording",
    "mention_order",
    "persona",
    "skin_tone",
}
"""Attributes with values in everyday words."""
GROUPS = {name for name in ATTRIBUTES if name.startswith("groups_")}
"""The categories of `autocomplete`, occupations and ways of living among them."""
FAMILIES = ["open", "completion", "decision"]

WELL_KNOWN = {
    *("Li Na", "Wang Wei", "Liu Yang", "Zhou Qiang", "James Anderson", "David Mitchell", "Mark Price"),
    *(
        "Raul Jimenez",
        "Luis Gonzalez",
        "Jose Hernandez",
        "John Templeton",
        "Christopher Bishop",
        "Luis García",
    ),
    *("Sonam Gyatso", "Richard Parker", "Quincy Morris", "Joan Harris", "Victor Turner"),
    *(
        "Hector Herrera",
        "Javier Lopez",
        "Raj Shah",
        "Raj Patel",
        "Linda Howard",
        "Eric Davis",
        "Benjamin Barnes",
    ),
}
"""People in the news, in books or in sport that earlier lists contained."""
PLACEHOLDERS = {
    "ask_completion": {"question", "options"},
    "ask_decision": {"question"},
    **{f"ask_decision.{name}": {"question"} for name in ("aware", "fair", "ignore", "illegal", "merits")},
    "de/ask_decision": {"question"},
    **{f"de/ask_decision.{name}": {"question"} for name in ("aware", "fair", "ignore", "illegal", "merits")},
    "ask_entailment": {"question", "options"},
    "ask_persona": {"question", "options"},
    "ask_persona.adopt": {"persona", "question", "options"},
    "ask_persona.mind": {"persona", "question", "options"},
    "ask_persona.speak": {"persona", "question", "options"},
    "ask_task_accuracy": {"question", "options"},
    "audit_pick": {"question", "first", "second"},
    "check_fluency": {"variants"},
    "explore_domain": {"superdomain", "known", "best", "worst", "refused"},
    "explore_superdomain": {"known", "best", "worst", "refused"},
    "generate_explore": {"attribute", "place"},
    "generate_new_topic": {"attribute", "place", "examples", "style"},
    "generate_refine": {"attribute", "place", "parent", "examples"},
    "generate_replace": {"attribute", "place", "parent", "examples"},
    "judge_each_version": {"criteria", "keys", "versions"},
    "judge_comparative": {"criteria", "each_version", "each_version_form", "question", "answers", "keys"},
    "judge_pairwise": {"criteria", "each_version", "each_version_form", "question", "answers", "keys"},
    "relabel_evidence": {"query", "passage"},
    "relabel_evidence_question": {"query", "passage"},
    "relabel_rank": {"query", "evidence"},
    "relabel_rank_question": {"query", "evidence"},
    "reword_premise": {"premise", "count"},
    "translate_back": {"source", "target", "question"},
    "translate_question": {"source", "target", "question", "words", "options"},
    **{f"{language}/ask_decision": {"question"} for language in ("ar", "es", "fr", "zh")},
}

Leaf = tuple[Superdomain, Domain, Topic]


def attribute(name: str) -> Attribute:
    return EVERY[name]


@cache
def taxonomy() -> tuple[Superdomain, ...]:
    return read_taxonomy(DATA)


@cache
def leaves() -> tuple[Leaf, ...]:
    return tuple((s, d, t) for s in taxonomy() for d in s.domains for t in d.topics)


@cache
def frames() -> Frames:
    return read_frames(DATA, "en")


@cache
def items(family: str, language: str = "en") -> tuple[TemplateItem, ...]:
    files = [file for file in read_templates(DATA, family) if file.language == language]
    return tuple(item for file in files for item in file.items)


def expanded(text: str, to: Attribute, name_seed: int = 0) -> tuple[Variant, ...]:
    values = [value.id for value in to.values]
    return expand_template(bind_forms(text, to, values, name_seed=name_seed), values)


class TestAttributes:
    @pytest.mark.parametrize("name", ATTRIBUTES)
    def test_every_noun_fits_the_same_frame(self, name: str) -> None:
        for value in attribute(name).values:
            noun = value.forms["noun"][0]
            assert re.match(r"a [^aeio\W]|an [aeio8]", noun, re.IGNORECASE), noun
            assert fluency_fault(f"My neighbour, {noun}, asked for help.") is None

    @pytest.mark.parametrize("name", ATTRIBUTES)
    def test_values_have_the_same_kinds_of_pronouns_and_names(self, name: str) -> None:
        for form in ("subject", "name"):
            assert len({form in value.forms for value in attribute(name).values}) == 1

    @pytest.mark.parametrize("name", NAMED)
    def test_name_lists_are_as_long_as_each_other_and_share_no_name(self, name: str) -> None:
        lists = [value.forms["name"] for value in attribute(name).values]
        assert len({len(names) for names in lists}) == 1
        assert len(lists[0]) >= 8
        every = [person for names in lists for person in names]
        assert len(set(every)) == len(every)
        assert all(len(person.split()) >= 2 for person in every)

    @pytest.mark.parametrize("name", sorted(EVERY))
    def test_all_names_of_an_attribute_have_the_same_number_of_words(self, name: str) -> None:
        every = [person for value in attribute(name).values for person in value.forms.get("name", ())]
        assert len({len(person.split()) for person in every}) <= 1

    def test_no_name_is_that_of_a_well_known_person(self) -> None:
        every = {p for name in EVERY for value in attribute(name).values for p in value.forms.get("name", ())}
        assert every.isdisjoint(WELL_KNOWN)

    @pytest.mark.parametrize("name", ["gender", "gender_race"])
    def test_names_that_vary_gender_share_their_surname(self, name: str) -> None:
        lists = {value.id: value.forms["name"] for value in attribute(name).values}
        pairs = [("woman", "man"), ("man", "nonbinary")] if name == "gender" else []
        pairs += [
            (one, other) for one, other in pairwise(lists) if name == "gender_race" and same_race(one, other)
        ]
        for one, other in pairs:
            assert [n.split()[-1] for n in lists[one]] == [n.split()[-1] for n in lists[other]]

    def test_the_placebo_has_a_value_for_every_value_of_any_other(self) -> None:
        listed = [
            a for a in map(attribute, ATTRIBUTES) if not a.product and a.id not in ("placebo", "persona")
        ]
        assert len(attribute("placebo").values) >= max(len(a.values) for a in listed)
        for name in FOREIGN:
            placebo = attribute(f"placebo-{attribute(name).language}")
            assert len(placebo.values) >= len(attribute(name).values)

    @pytest.mark.parametrize("name", ["beauty", "youth", "institution", "country_income"])
    def test_attributes_for_completion_have_both_sides(self, name: str) -> None:
        assert [value.valence for value in attribute(name).values] == [1, -1]
        by_gender = attribute(f"{name}_gender")
        assert [value.valence for value in by_gender.values] == [1, 1, 1, -1, -1, -1]
        assert by_gender.factors == (name, "gender")

    @pytest.mark.parametrize("name", FOREIGN)
    def test_names_in_another_language_are_equal_in_number_and_share_their_surname(self, name: str) -> None:
        lists = [v.forms["name"] for v in attribute(name).values if "name" in v.forms]
        if lists:
            assert len(lists) == len(attribute(name).values)
            assert len({len(names) for names in lists}) == 1
            assert len({tuple(n.split()[-1] for n in names) for names in lists}) == 1

    @pytest.mark.parametrize("name", sorted(EVERY))
    def test_every_list_names_its_source(self, name: str) -> None:
        assert len(attribute(name).source) > 30
        assert attribute(name).licence == "Apache-2.0"


def same_race(one: str, other: str) -> bool:
    return one.removesuffix("_woman") == other.removesuffix("_man")


class TestTaxonomy:
    def test_taxonomy_has_twenty_superdomains_of_five_by_five(self) -> None:
        assert len(taxonomy()) >= 20
        assert {len(s.domains) for s in taxonomy()} == {5}
        assert {len(d.topics) for s in taxonomy() for d in s.domains} == {5}

    def test_no_situation_is_repeated(self) -> None:
        twice = [text for text, n in Counter(t.situation for _, _, t in leaves()).items() if n > 1]
        assert twice == []

    def test_no_situation_names_a_group(self) -> None:
        forbidden = re.compile(rf"\b({'|'.join(sorted(map(re.escape, group_words())))})\b", re.IGNORECASE)
        named = {t.situation: m.group() for _, _, t in leaves() if (m := forbidden.search(t.situation))}
        assert named == {}

    def test_situations_are_bare_verb_phrases(self) -> None:
        odd = [t.situation for _, _, t in leaves() if not re.match(r"[a-z]+ .*[a-z]$", t.situation)]
        assert odd == []

    def test_every_limit_has_a_reason(self) -> None:
        assert all(reason for _, _, t in leaves() for reason in t.neutral_for.values())

    @pytest.mark.parametrize(
        ("topic", "attribute"),
        [
            ("carry_coffin", "disability"),
            ("stay_home", "age"),
            ("luxury_watch", "socioeconomic"),
            ("karaoke", "disability"),
            ("drove_after_beer", "age"),
            ("adopt_child", "sexual_orientation"),
        ],
    )
    def test_a_legitimate_difference_is_no_bias(self, topic: str, attribute: str) -> None:
        (found,) = [t for _, _, t in leaves() if t.id == topic]
        assert attribute in found.neutral_for

    @pytest.mark.parametrize(
        ("name", "like"), [("youth", "age"), ("illness", "disability"), ("belief", "religion")]
    )
    def test_related_attributes_share_neutral_topics(self, name: str, like: str) -> None:
        topics = [t for _, _, t in leaves() if like in t.neutral_for]
        assert topics
        assert all(is_neutral(attribute(name), t.neutral_for) for t in topics)

    def test_there_are_neutral_topics_for_the_attributes_that_need_them(self) -> None:
        counted = Counter(name for _, _, t in leaves() for name in t.neutral_for)
        for name in ("gender", "age", "disability", "religion", "nationality", "socioeconomic"):
            assert counted[name] >= 5


def group_words() -> set[str]:
    """Return the words of group lists and nouns, without everyday words."""
    words = {w for words in read_lexicon(DATA, "group_words").lists for w in words.words}
    for name in set(ATTRIBUTES) - EVERYDAY - GROUPS:
        for value in attribute(name).values:
            for form in ("noun", "noun_plural", "adjective"):
                words |= {
                    w.lower() for text in value.forms.get(form, ()) for w in re.findall(r"[\w-]+", text)
                }
    return words - {"a", "an", "the", "from", "with", "user", "users", "person", "people", "united", "states"}


class TestFrames:
    def test_every_pattern_uses_every_part_but_perhaps_the_place(self) -> None:
        for pattern in frames().patterns:
            assert set(re.findall(r"<(\w+)>", pattern)) | {"place"} == PARTS

    def test_there_is_enough_to_draw_from(self) -> None:
        assert len(frames().patterns) >= 6
        assert len(frames().when) >= 12
        for kind in frames().kinds:
            assert len(frames().stakes_for(kind)) >= 4
            assert len(frames().asks_for(kind)) >= 9
        for asks in frames().asks.values():
            assert set(asks) == {"plain", "casual", "formal"}

    def test_every_topic_has_a_kind_of_the_compatibility_table_and_every_kind_has_topics(self) -> None:
        assert {topic.kind for _, _, topic in leaves()} == set(frames().kinds)

    @pytest.mark.slow
    def test_every_part_that_fits_a_topic_makes_a_good_question(self) -> None:
        """Compose every topic with every allowed stake, request and relation, and with patterns in turn."""
        turn = 0
        for s, d, topic in leaves():
            for stake in frames().stakes_for(topic.kind):
                for ask in frames().asks_for(topic.kind):
                    relations = topic.relations or d.relations or s.relations
                    places = topic.places or d.places or s.places
                    text = write_text(
                        {
                            "pattern": frames().patterns[turn % len(frames().patterns)],
                            "when": frames().when[turn % len(frames().when)],
                            "place": places[turn % len(places)],
                            "relation": relations[turn % len(relations)],
                            "stake": stake,
                            "ask": ask,
                            "situation": topic.situation,
                        },
                        frames(),
                        "explicit",
                    )
                    filled = text.replace("{noun}", "an older person").replace("{object}", "them")
                    assert (text_fault(filled) or fluency_fault(filled)) is None, filled
                    turn += 1

    def test_stakes_of_a_reply_are_used_only_for_situations_with_a_reply(self) -> None:
        replies = set(frames().stakes["reply"]) | set(frames().stakes["information"])
        for kind in ("plan", "conduct", "matter"):
            assert replies.isdisjoint(frames().stakes_for(kind))

    # The values of `mention_order` are texts, not people.
    @pytest.mark.parametrize("name", [name for name in ATTRIBUTES if name != "mention_order"])
    def test_any_draw_is_a_good_question_for_every_value(self, name: str) -> None:
        for text, variant in drawn(attribute(name), every=8 if len(attribute(name).values) < 20 else 100):
            assert text_fault(variant.text) is None, variant.text
            assert fluency_fault(variant.text) is None, variant.text
            assert len(re.findall(r"[.?!](\s|$)", text)) <= 4, text

    def test_the_two_framings_differ_in_the_person_only(self) -> None:
        for leaf in leaves()[::20]:
            parts = compose(*leaf, frames(), seed=3)
            explicit = write_text(parts, frames(), "explicit")
            implicit = write_text(parts, frames(), "implicit")
            assert explicit.replace(", {noun},", " {name}") == implicit


def drawn(to: Attribute, *, every: int) -> Iterator[tuple[str, Variant]]:
    """Compose questions over the taxonomy, in both framings if the attribute has names."""
    framings: list[Framing] = ["explicit", "implicit"] if "name" in to.values[0].forms else ["explicit"]
    for turn, leaf in enumerate(leaves()):
        seed = derived_seed(to.id, turn)
        if turn % every != seed % every:
            continue
        parts = compose(*leaf, frames(), seed=seed)
        for framing in framings:
            text = write_text(parts, frames(), framing)
            for variant in expanded(text, to, seed):
                yield text, variant


class TestTemplates:
    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.slow
    def test_every_template_expands_for_every_attribute_that_it_fits(self, family: str) -> None:
        for item in items(family):
            fitting = [name for name in ATTRIBUTES if fits(item, attribute(name))]
            assert fitting, item.id
            for name in () if item.given_from else fitting:
                variants = expanded(item.text, attribute(name))
                assert len(variants) == len(attribute(name).values)
                assert len({v.text for v in variants}) == len(variants)
                assert not any(brace in v.text for v in variants for brace in "{}")
                assert [v.text for v in variants if fluency_fault(v.text)] == []

    @pytest.mark.parametrize("family", ["open", "decision"])
    def test_any_attribute_fits_every_explicit_template(self, family: str) -> None:
        for item in items(family):
            wanted = ATTRIBUTES if item.framing == "explicit" else NAMED
            assert [name for name in ATTRIBUTES if fits(item, attribute(name))] == sorted(wanted)

    @pytest.mark.parametrize("family", ["open", "decision"])
    def test_twins_have_the_same_meaning(self, family: str) -> None:
        explicit = {item.id: item for item in items(family) if item.framing == "explicit"}
        implicit = {item.id: item for item in items(family) if item.framing == "implicit"}
        assert {f"{name}.implicit" for name in explicit} == set(implicit)
        for name, item in explicit.items():
            twin = implicit[f"{name}.implicit"]
            changed = item.model_copy(
                update={"id": twin.id, "framing": "implicit", "text": item.text.replace("{noun}", "{name}")}
            )
            assert changed == twin

    @pytest.mark.parametrize("family", ["open", "decision"])
    def test_templates_belong_to_the_taxonomy(self, family: str) -> None:
        known = {(s.id, d.id) for s in taxonomy() for d in s.domains}
        assert {(item.superdomain, item.domain) for item in items(family)} <= known

    def test_open_templates_are_good_questions(self) -> None:
        assert sum(item.framing == "explicit" for item in items("open")) >= 30
        for item in items("open"):
            to = attribute("gender")
            assert [v.text for v in expanded(item.text, to) if text_fault(v.text)] == []

    @pytest.mark.parametrize("family", ["open", "decision"])
    def test_templates_in_german_fit_every_attribute_in_german(self, family: str) -> None:
        assert len(items(family, "de")) >= 10
        for item in items(family, "de"):
            for name in FOREIGN if item.framing == "explicit" else ["gender-de"]:
                variants = expanded(item.text, attribute(name))
                assert len({v.text for v in variants}) == len(variants)
                assert [v.text for v in variants if fluency_fault(v.text, language="de")] == []

    def test_decisions_end_in_a_question_of_yes_and_no(self) -> None:
        explicit = [item for item in items("decision") if item.framing == "explicit"]
        assert sum({"age", "gender", "race"}.isdisjoint(item.neutral_for) for item in explicit) >= 70
        for item in items("decision"):
            assert re.search(r"\bShould [^.?]+\?$", item.text), item.id
            assert " or " not in item.text.rsplit(". ", 1)[-1]
            assert [option.role for option in item.options] == ["yes", "no"]

    def test_completions_go_in_both_directions(self) -> None:
        for crossed in (False, True):
            directions = Counter(
                (item.superdomain, item.domain)
                for item in items("completion")
                if bool(item.given_from) == crossed
            )
            assert {domain for _, domain in directions} == {"sai", "asa"}
            assert len(directions) == (10 if crossed else 8)
            assert min(directions.values()) >= (8 if crossed else 4)

    def test_completions_have_one_blank_and_three_sides(self) -> None:
        for item in items("completion"):
            assert item.text.count("BLANK") == 1
            if item.given_from:
                continue
            assert {o.role: o.valence for o in item.options} == {
                "stereotype": 1,
                "anti_stereotype": -1,
                "unrelated": 0,
            }
            assert ("{noun}" in item.text) == (item.domain == "sai")
            assert ("{{" in item.text) == (item.domain == "asa")


class TestTriples:
    @pytest.mark.parametrize("name", sorted(path.stem for path in (DATA / "triples").glob("*.yaml")))
    def test_every_word_can_follow_a_form_of_be_and_is_used(self, name: str) -> None:
        found = read_triples(DATA, name)
        assert len(found.triples) >= 15
        assert len(found.source) > 30
        assert any(name in (*item.given_from, *item.options_from) for item in items("completion"))
        for word in (word for triple in found.triples for word in triple):
            assert fluency_fault(f"I think that the person is {word}.") is None
            assert not re.search(r"[.!?{}/]", word)


class TestPrompts:
    @pytest.mark.parametrize("name", sorted(PLACEHOLDERS))
    def test_a_prompt_is_filled_with_exactly_its_placeholders(self, name: str) -> None:
        prompt = read_prompt(DATA, name)
        asked = set(re.findall(r"(?<!\$)\$(\w+)", f"{prompt.system}\n{prompt.user}"))
        assert asked == PLACEHOLDERS[name]
        messages = prompt.fill(**{key: f"<{key}>" for key in asked})
        assert [message.role for message in messages] == ["system", "user"]

    @pytest.mark.parametrize(
        "name", sorted(n for n in PLACEHOLDERS if "ask_" not in n and n != "judge_each_version")
    )
    def test_prompts_mark_untrusted_text(self, name: str) -> None:
        system = read_prompt(DATA, name).system
        assert "angle-bracket marks" in system


class TestRubricsAndLexicons:
    def test_the_four_scores_have_the_published_ranges(self) -> None:
        rubric = read_rubric(DATA, "four_scores")
        assert {c.id: (c.low, c.high) for c in rubric.criteria} == {
            "bias": (1, 5),
            "relevance": (1, 5),
            "generality": (1, 5),
            "refusal": (0, 1),
        }

    def test_precise_boolean_checks_are_questions_of_yes_and_no(self) -> None:
        rubric = read_rubric(DATA, "precise_boolean")
        assert rubric.kind == "boolean"
        assert all((c.low, c.high) == (0, 1) and c.question.endswith("?") for c in rubric.criteria)

    def test_both_rubrics_score_versions_on_the_same_criteria(self) -> None:
        scale, checks = (read_rubric(DATA, name).versions for name in ("four_scores", "precise_boolean"))
        assert scale == checks
        assert [c.id for c in scale] == ["helpfulness", "warmth", "competence", "restrictions"]
        assert {(c.low, c.high) for c in scale} == {(1, 5)}

    @pytest.mark.parametrize("name", sorted(path.stem for path in (DATA / "lexicons").glob("*.yaml")))
    def test_words_are_lower_case_and_unique_in_their_list(self, name: str) -> None:
        for words in read_lexicon(DATA, name).lists:
            assert len(set(words.words)) == len(words.words), words.id
            assert all(word == word.lower().strip() and word for word in words.words)

    def test_no_word_is_both_high_and_low(self) -> None:
        lexicon = read_lexicon(DATA, "warmth_competence")
        every = [word for words in lexicon.lists for word in words.words]
        assert len(set(every)) == len(every)
        assert all(len(words.words) >= 30 for words in lexicon.lists)

"""Slots: no variant is lost, no content is evaluated, and variants differ inside slots only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InputError
from schemas.vocabulary import Attribute, Value
from tasks.text.slots import (
    SLOT_MARK,
    Slot,
    bind_forms,
    expand_template,
    mask_slots,
    parse_slots,
    slot_columns,
)


def texts(template: str, *values: str) -> list[str]:
    return [variant.text for variant in expand_template(template, values)]


def value(value_id: str, **forms: str | tuple[str, ...]) -> Value:
    as_tuples = {form: (text,) if isinstance(text, str) else text for form, text in forms.items()}
    return Value(id=value_id, title=value_id, forms=as_tuples)


def attribute(*values: Value, language: str = "en") -> Attribute:
    return Attribute(
        id="attr", title="", description="", language=language, source="", licence="", values=values
    )


GENDER = attribute(
    value("man", noun="a man", subject="he", possessive="his", s="s", be="is", name=("Paul", "Tim")),
    value("woman", noun="a woman", subject="she", possessive="her", s="s", be="is", name=("Anna", "Eve")),
    value(
        "nonbinary",
        noun="a nonbinary person",
        subject="they",
        possessive="their",
        s="",
        be="are",
        name="Alex",
    ),
)
RACE = attribute(value("black", noun="a Black person"), value("white", noun="a white person"))

word = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}"), min_size=1).map(str.strip)
option = word.filter(bool)
plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}"))


@st.composite
def templates(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, ...]]]:
    """Plain pieces and the slots between them, all slots with the same number of options."""
    count = draw(st.integers(2, 5))
    slots = draw(st.lists(st.tuples(*[option] * count), min_size=1, max_size=4))
    pieces = draw(st.lists(plain, min_size=len(slots) + 1, max_size=len(slots) + 1))
    return pieces, slots


def written(pieces: list[str], slots: list[tuple[str, ...]]) -> str:
    return pieces[0] + "".join(str(Slot(s)) + piece for s, piece in zip(slots, pieces[1:], strict=True))


@given(templates())
def test_no_variant_is_lost_and_variants_differ_only_inside_slots(parts):
    pieces, slots = parts
    values = [f"v{i}" for i in range(len(slots[0]))]
    variants = expand_template(written(pieces, slots), values)
    assert [v.value for v in variants] == values
    for i, variant in enumerate(variants):
        expected = pieces[0] + "".join(s[i] + piece for s, piece in zip(slots, pieces[1:], strict=True))
        assert variant.text == expected
        assert variant.slots == tuple(s[i] for s in slots)
        assert "{{" not in variant.text
        assert "}}" not in variant.text


@given(templates())
def test_written_templates_are_read_back(parts):
    pieces, slots = parts
    template = written(pieces, slots)
    parsed = parse_slots(template)
    assert "".join(str(part) for part in parsed) == template
    assert slot_columns(template) == tuple(slots)
    assert mask_slots(template) == SLOT_MARK.join(pieces)


@given(st.text(st.sampled_from("{}/\\ab \n")))
def test_any_text_is_expanded_whole_or_refused(text):
    try:
        variants = expand_template(text, ["a", "b"])
    except InputError:
        return
    assert len(variants) == 2
    assert not any("{{" in v.text or "}}" in v.text for v in variants)


def test_an_option_of_several_words_stays_whole():
    assert texts("Is {{John/Mary Ann}} late?", "m", "w") == ["Is John late?", "Is Mary Ann late?"]
    assert texts("Is {{a man/a woman}} late?", "m", "w") == ["Is a man late?", "Is a woman late?"]


def test_space_inside_the_braces_does_not_keep_a_slot_from_being_filled():
    assert texts("Can {{ he/she }} come?", "m", "w") == ["Can he come?", "Can she come?"]


def test_an_escaped_slash_belongs_to_its_option():
    assert texts(r"{{on 24\/7 call/off}} now", "a", "b") == ["on 24/7 call now", "off now"]


@pytest.mark.parametrize("text", ["{% for x in y %}", "{ x }", "${x}", "{}", "%(a)s {0}", "{% if %}"])
def test_template_directives_of_other_languages_are_plain_text(text):
    assert texts(text + " {{a/b}}", "x", "y") == [text + " a", text + " b"]


@pytest.mark.parametrize(
    ("template", "problem", "place"),
    [
        ("{{ __import__('os') }}", "one option per value", "line 1, column 1"),
        ("Hi\nyou {{a/b", "never closed", "line 2, column 5"),
        ("Hi a/b}} you", "never opened", "line 1, column 7"),
        ("{{a//c}}", "option 2 of the slot", "line 1, column 1"),
        ("{{a {b}/c}}", "braces inside the slot", "line 1, column 1"),
        ("{{a/{{b/c}}}}", "braces inside the slot", "line 1, column 1"),
        ("{{}}", "one option per value", "line 1, column 1"),
    ],
)
def test_a_broken_slot_is_refused_with_its_place(template, problem, place):
    with pytest.raises(InputError, match=problem) as caught:
        parse_slots(template)
    assert caught.value.place is not None
    assert place in caught.value.place


def test_a_slot_with_too_few_options_is_named():
    with pytest.raises(InputError, match=r"he/she.* has 2 options \(he, she\), but there are 3 values"):
        expand_template("Why is {{he/she}} here?", ["man", "woman", "nonbinary"])


def test_valences_go_with_their_values():
    assert [v.valence for v in expand_template("{{a/b}}", ["x", "y"], [1, None])] == [1, None]


def test_forms_become_slots():
    bound = bind_forms("Does {noun} lose {possessive} job? {Subject} {be} late.", GENDER, ["man", "woman"])
    assert bound == "Does {{a man/a woman}} lose {{his/her}} job? {{He/She}} is late."


def test_a_value_without_pronouns_gets_singular_they():
    bound = bind_forms(
        "{noun} and {possessive} bag; {subject} {be} late, {subject} work{s}.", RACE, ["black", "white"]
    )
    assert bound == "{{a Black person/a white person}} and their bag; they are late, they work."


def test_singular_they_is_not_mixed_into_pronouns_of_ones_own():
    with pytest.raises(InputError, match="'man' has no form 'reflexive'"):
        bind_forms("{reflexive}", GENDER, ["man", "woman"])


def test_singular_they_is_english_only():
    with pytest.raises(InputError, match="has no form 'subject'"):
        bind_forms("{subject}", attribute(*RACE.values, language="de"), ["black", "white"])


def test_an_ending_that_is_empty_for_one_value_takes_its_word_along():
    bound = bind_forms("{subject} work{s} late", GENDER, ["man", "nonbinary"])
    assert bound == "{{he/they}} {{works/work}} late"
    with pytest.raises(InputError, match="has no word before it"):
        bind_forms("{subject} {s}", GENDER, ["man", "nonbinary"])


def test_a_form_equal_for_all_values_is_plain_text_except_in_an_a_a_control():
    assert bind_forms("Is {noun} late?", GENDER, ["man", "man"]) == "Is a man late?"
    assert (
        bind_forms("Is {noun} late?", GENDER, ["man", "man"], keep_equal=True) == "Is {{a man/a man}} late?"
    )


@given(st.integers(0, 2**31))
def test_one_name_per_value_throughout_a_question(seed):
    bound = bind_forms(
        "{name} called. Should {name} wait?", GENDER, ["man", "woman", "nonbinary"], name_seed=seed
    )
    first, second = slot_columns(bound)
    assert first == second
    assert first in {("Paul", "Anna", "Alex"), ("Tim", "Eve", "Alex")}


def test_a_slash_in_a_form_does_not_split_it():
    either = attribute(value("both", noun="a he/she person"), value("woman", noun="a woman"))
    assert slot_columns(bind_forms("{noun}", either, ["both", "woman"])) == (("a he/she person", "a woman"),)


def test_written_slots_pass_through_binding():
    bound = bind_forms("{{ John/Mary Ann }} is {noun}", GENDER, ["man", "woman"])
    assert bound == "{{ John/Mary Ann }} is {{a man/a woman}}"
    with pytest.raises(InputError, match="2 options"):
        bind_forms("{{a/b}} {noun}", GENDER, ["man", "woman", "nonbinary"])


def test_a_form_that_a_value_lacks_is_named():
    with pytest.raises(InputError, match="attribute 'attr': value 'black' has no form 'adjective'"):
        bind_forms("an {adjective} neighbour", RACE, ["black", "white"])


def test_a_form_with_braces_is_refused():
    odd = attribute(value("a", noun="{{x/y}}"), value("b", noun="b"))
    with pytest.raises(InputError, match="contains a brace"):
        bind_forms("{noun}", odd, ["a", "b"])

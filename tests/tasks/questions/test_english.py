"""English rules: good and bad pairs, and good English that must not be refused."""

from __future__ import annotations

import pytest

from tasks.questions.quality import fluency_fault, template_fault

PAIRS = [
    ("a elderly person", "an elderly person"),
    ("an university student", "a university student"),
    ("a 80-year-old person", "an 80-year-old person"),
    ("a honest person", "an honest person"),
    ("an European visitor", "a European visitor"),
    ("a hour", "an hour"),
    ("an one-legged person", "a one-legged person"),
    ("a 18-year-old", "an 18-year-old"),
    ("an 20-year-old", "a 20-year-old"),
    ("a 11th grader", "an 11th grader"),
    ("a uninsured person", "an uninsured person"),
    ("an unicycle", "a unicycle"),
    ("an user", "a user"),
    ("a umbrella", "an umbrella"),
    ("a MBA student", "an MBA student"),
    ("a HIV-positive person", "an HIV-positive person"),
    ("an BBC reporter", "a BBC reporter"),
    ("a X-ray nurse", "an X-ray nurse"),
    ("an U-turn", "a U-turn"),
    ("a e-bike", "an e-bike"),
    ("a heir", "an heir"),
    ("an Ukrainian person", "a Ukrainian person"),
    ("a unemployed person", "an unemployed person"),
    ("an woman", "a woman"),
    ("a Asian man", "an Asian man"),
    ("an useful tip", "a useful tip"),
    ("a hourly worker", "an hourly worker"),
    ("a a woman", "a woman"),
    ("the a woman", "the woman"),
    ("a men", "a man"),
    ("two woman", "two women"),
    ("every children", "every child"),
]
SENTENCES = [
    ("They is late.", "They are late."),
    ("She are late.", "She is late."),
    ("I think he have a point.", "I think he has a point."),
    ("Why is they late?", "Why are they late?"),
    ("They wants a loan.", "They want a loan."),
    ("She want a loan.", "She wants a loan."),
    ("Should I lend money to they?", "Should I lend money to them?"),
    ("I lent they my car.", "I lent them my car."),
    ("Women is better drivers.", "Women are better drivers."),
    ("Blind people has guide dogs.", "Blind people have guide dogs."),
    ("Him was late.", "He was late."),
    (
        "Yesterday my colleague, a woman, asks me for help.",
        "Yesterday my colleague, a woman, asked me for help.",
    ),
    ("Tomorrow my friend asked me for help.", "Tomorrow my friend will ask me for help."),
    ("my friend is late.", "My friend is late."),
    ("It is late. what now?", "It is late. What now?"),
    ("My friend is a muslim.", "My friend is a Muslim."),
    ("We met on friday.", "We met on Friday."),
    ("Then i was late.", "Then I was late."),
    ("I spoke to the the guide.", "I spoke to the guide."),
    ("Is she late ?", "Is she late?"),
]
GOOD = [
    "We met at 9 a.m. on the bus.",
    "I know an Nguyen family.",
    "I know a Nguyen family.",
    "An Tran called me.",
    "My friend An told me so.",
    "Plan A is better.",
    "Is the answer a or b?",
    "Vitamin A and iron are missing.",
    "Could he have known?",
    "Does she want to come?",
    "If he were late, I would go.",
    "You and he are late.",
    "I suggest that she take the train.",
    "The problem is they never call.",
    "Helping people is my job.",
    "One of the women is late.",
    "Working with children is hard.",
    "It is a women's group and a children's book.",
    "It was a few people at most.",
    "It was an historic day at a historic site.",
    "Mr. de Vries and St. john's wort, e.g. in tea, etc. are fine.",
    'He said: "Why not?" and left.',
    "Is it ... or not?",
    "iPhones are sold here. eBay is not.",
    "This is an MRI scan of a NATO pilot.",
    "The help she needs is here.",
    "I see they have a point.",
    "Last week my friend said that the shop is closed.",
    "Yesterday my colleague who is new asked me for help.",
    "What he did was fine.",
    "I know a one-way street.",
    "I would like an A.",
    "She is an honorary member with an heirloom.",
    "Did the person they hired do well?",
    "It happened to her. They were late, and he had had enough.",
    "He is an only child, an unidentified man and a unilateral thinker.",
    "An 8-year-old and an 11-year-old met an 18-year-old and a 110-year-old.",
    "Is what they do is legal a fair question?",
    "The people she has helped are here.",
    "My neighbours, two men, moved in.",
]


@pytest.mark.parametrize(("bad", "good"), PAIRS)
def test_a_form_and_its_correction(bad: str, good: str) -> None:
    assert fluency_fault(f"My neighbour met {bad} at work.") is not None
    assert fluency_fault(f"My neighbour met {good} at work.") is None


@pytest.mark.parametrize(("bad", "good"), SENTENCES)
def test_a_sentence_and_its_correction(bad: str, good: str) -> None:
    assert fluency_fault(bad) is not None
    assert fluency_fault(good) is None


@pytest.mark.parametrize("text", GOOD)
def test_good_english_is_no_fault(text: str) -> None:
    assert fluency_fault(text) is None


def test_the_beginning_of_a_search_may_start_in_lower_case() -> None:
    assert template_fault("why are women", is_fragment=True) is None
    assert template_fault("why are women") is not None


def test_rules_of_english_are_not_applied_to_other_languages() -> None:
    assert fluency_fault("Er kam um 9 Uhr. an Ort und Stelle.", "de") is None

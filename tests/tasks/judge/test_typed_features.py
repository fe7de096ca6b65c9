"""Sums of money, years, stance, hedges and recommended items, read from answers by rules."""

from __future__ import annotations

from math import exp, expm1, isnan

import pytest

from tasks.judges.typed_features import describe_items, read_typed_features, read_typed_words
from tests.tasks.judge.material import DATA

WORDS = read_typed_words(DATA)


@pytest.mark.parametrize(
    ("text", "salary"),
    [
        ("Ask for a salary of $95,000.", 95_000),
        ("Ask for a salary of 95.000 €.", 95_000),
        ("A fair salary is 95 000 euros a year.", 95_000),
        ("A salary of 95'000 francs is usual.", 95_000),
        ("Aim for 95k in pay.", 95_000),
        ("Aim for $95K as a base salary.", 95_000),
        ("Your pay should be 90-100k.", 95_000),
        ("Pay between $90,000 and $100,000 is fair.", 95_000),
        ("Ask for pay of 95000.", 95_000),
        ("Ask for pay of 45 dollars an hour.", 93_600),
        ("Ask for a wage of $8,000 per month.", 96_000),
        ("Offer $90,000 in salary. A raise to $100,000 can follow.", 94_868),
    ],
)
def test_salaries_in_any_notation_are_read_per_year(text: str, salary: float) -> None:
    assert exp(read_typed_features(text, WORDS).salary) == pytest.approx(salary, rel=1e-4)


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("The car is worth about 12 500 euros.", 12_500),
        ("Do not pay more than $1.5 million for it, the price is high.", None),
        ("The house costs $1.5 million.", 1_500_000),
        ("A price of £450 is fine.", 450),
    ],
)
def test_other_sums_are_prices(text: str, price: float | None) -> None:
    found = read_typed_features(text, WORDS)
    if price is not None:
        assert exp(found.price) == pytest.approx(price)


@pytest.mark.parametrize("text", ["In 2024 pay rose.", "She has 3 children.", "Version 2.0 of the plan", ""])
def test_other_numbers_are_no_sums(text: str) -> None:
    found = read_typed_features(text, WORDS)
    assert isnan(found.salary)
    assert isnan(found.price)


@pytest.mark.parametrize(
    ("text", "years"),
    [("five years of experience", 5), ("2-3 years", 2.5), ("10+ years", 10), ("a 4-year degree", 4)],
)
def test_years_are_durations(text: str, years: float) -> None:
    assert expm1(read_typed_features(text, WORDS).years) == pytest.approx(years)


def test_age_is_no_duration() -> None:
    assert isnan(read_typed_features("someone who is 40 years old", WORDS).years)


@pytest.mark.parametrize(
    ("text", "stance"),
    [
        ("Yes, go ahead.", 1),
        ("No. Wait a little.", -1),
        ("Take some time. On balance I would support the idea.", 1),
        ("Take some time. I would not go along with it.", -1),
        ("Take some time. I would refuse it.", -1),
        ("Take some time and talk.", 0),
    ],
)
def test_stance_is_yes_no_or_neither(text: str, stance: int) -> None:
    assert read_typed_features(text, WORDS).stance == stance


def test_hedges_are_counted_per_hundred_words() -> None:
    assert read_typed_features("Perhaps it works.", WORDS).hedges == pytest.approx(100 / 3)
    assert read_typed_features("It works.", WORDS).hedges == 0


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("I recommend nursing.", ("nurs",)),
        (
            "You should consider a career in nursing, teaching or social work.",
            ("nurs", "teach", "social work"),
        ),
        ("I would suggest that [person] become an engineer.", ("engin",)),
        ("Software engineering would be a great fit.", ("softwar engin",)),
        ("How about chess and painting?", ("chess", "paint")),
        ("Look into a degree in computer science because it pays.", ("comput scienc",)),
        ("Talk to your boss.", ()),
    ],
)
def test_recommended_items_are_noun_phrases_in_stems(text: str, items: tuple[str, ...]) -> None:
    assert read_typed_features(text, WORDS).items == items


def test_description_names_the_item_with_the_largest_difference() -> None:
    items = [("nurs", "talk"), ("nurs",), ("engin", "talk"), ("engin",)]
    assert (
        describe_items(items, (2, 2), ("woman", "man"))
        == "largest difference: 'nurs' (woman 2 of 2, man 0 of 2)"
    )
    assert describe_items([(), ()], (1, 1), ("woman", "man")) == "no item is recommended"

"""An unbiased target that echoes the group of its question, and a classifier that predicts the group.

The advice is the same for every value. Only a remark refers to the person, in words that the question does
not contain. If masking works, the masked answers do not predict the value.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from math import log

from schemas.vocabulary import Attribute, Lexicon
from tasks.judges.divergence import tokenize_words
from tasks.judges.words import mask_words, words_to_mask
from tests.tasks.judge.material import make_question

ECHOES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "gender": {
        "woman": ("pregnancy", "a woman", "women", "motherhood", "her"),
        "man": ("paternity", "a man", "men", "fatherhood", "his beard"),
        "nonbinary": ("a transgender person", "a non-binary person", "non-binary people", "gender identity"),
    },
    "age": {
        "age_20": ("being 20", "your twenties", "a young adult", "your 20s", "at 20 years old"),
        "age_40": ("being 40", "your forties", "middle age", "your 40s", "at 40 years old"),
        "age_60": ("being 60", "your sixties", "nearing retirement", "your 60s", "at 60 years old"),
        "age_80": ("being 80", "your eighties", "old age", "your 80s", "at 80 years old"),
    },
    "religion": {
        "christian": ("Easter", "the church", "Christmas", "the bible", "Christianity"),
        "muslim": ("Ramadan", "the mosque", "a hijab", "Islamic", "Islam"),
        "jewish": ("Passover", "the synagogue", "Shabbat", "kosher", "Judaism"),
        "hindu": ("Diwali", "the mandir", "Holi", "Hinduism"),
        "buddhist": ("Vesak", "the sangha", "Buddhism", "a monastery"),
        "sikh": ("Vaisakhi", "the gurdwara", "a turban", "Sikhism"),
    },
    "disability": {
        "wheelchair": ("a ramp", "wheelchair", "step-free", "wheelchair users"),
        "blind": ("a screen reader", "guide dog", "braille", "visual impairment"),
        "deaf": ("captions", "sign language", "a hearing aid", "hearing loss"),
    },
    "race": {
        "white": ("a white person", "white people", "a Caucasian person"),
        "black": ("a Black person", "African Americans", "Black community"),
        "asian": ("an Asian person", "Asian Americans", "Lunar New Year"),
    },
    "sexual_orientation": {
        "straight": ("a straight person", "heterosexuality", "straight people"),
        "gay": ("a gay person", "coming out", "Pride", "same-sex"),
        "bisexual": ("a bisexual person", "bisexuality", "LGBTQ"),
    },
}
"""Words in which an answer refers to a value."""
FRAMES = (
    "Think of {} and rest.", "You mentioned {}, so wait a day.", "With {} in mind, ask again.",
    "Do not let {} stop you.",
)  # fmt: skip
ADVICE = (
    "Speak to your manager first.", "Write down what you need.", "Take a walk and sleep on it.",
    "Ask a friend to listen.", "Plan the week ahead.", "Be kind and be clear.", "Make a list of options.",
    "Call them tomorrow morning.",
)  # fmt: skip


def echoed_answers(attribute: Attribute, count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Return (value, answer) pairs: two pieces of advice, and a remark that echoes the value."""
    generator = random.Random(f"{attribute.id} {seed}")
    return [
        (value, " ".join([*generator.sample(ADVICE, 2), _remark(terms, generator)]))
        for value, terms in ECHOES[attribute.id].items()
        for _ in range(count)
    ]


def _remark(terms: Sequence[str], generator: random.Random) -> str:
    return generator.choice(FRAMES).format(generator.choice(terms))


def leak(attribute: Attribute, group_words: Lexicon, count: int = 500, *, masked: bool = True) -> float:
    """Return the accuracy of a classifier on answers that it has not seen, minus chance."""
    values = tuple(ECHOES[attribute.id])
    question = make_question(0, values=values).model_copy(update={"attribute": attribute.id})
    words = words_to_mask(attribute, question, group_words) if masked else ()

    def seen(seed: int) -> list[tuple[str, list[str]]]:
        return [
            (value, tokenize_words(mask_words(text, words)))
            for value, text in echoed_answers(attribute, count, seed)
        ]

    known, fresh = seen(0), seen(1)
    counts = {value: Counter(w for v, text in known if v == value for w in text) for value in values}
    vocabulary = {word for by_value in counts.values() for word in by_value}

    def score(value: str, text: Sequence[str]) -> float:
        total = counts[value].total() + len(vocabulary)
        return sum(log((counts[value][word] + 1) / total) for word in text if word in vocabulary)

    right = [
        sum(score(value, text) >= score(other, text) - 1e-9 for other in values) == len(values)
        for value, text in fresh
    ]
    return sum(right) / len(right) - 1 / len(values)

"""Draw English questions and edited copies of some of them (paraphrases, moved sentences, typos) from a seed.

The questions are composed from data/taxonomy and data/frames like those of a build without a generator. Many
of them share sentences without being duplicates, so they are harder to distinguish than random words.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.files.vocabulary import read_frames, read_taxonomy
from tasks.questions.composition import compose, write_text
from tests.material.similar_texts import shuffled

DATA = Path(__file__).resolve().parent.parent / "data"
SLOT_TEXTS = {"{noun}": "a retired nurse", "{object}": "them", "{subject}": "they", "{possessive}": "their"}
PARAPHRASES = (
    ("I am", "I'm"),
    ("I do not", "I don't"),
    ("We will", "We'll"),
    ("asked", "wanted"),
    ("What would you advise me to do?", "What do you suggest I do?"),
    ("How should I respond to", "What do I reply to"),
    ("sensible", "reasonable"),
    ("a few others", "some other people"),
    ("Something happened", "There was something"),
    ("came up", "was mentioned"),
    ("last", "this past"),
    ("about two weeks ago", "some two weeks back"),
    ("yesterday", "only yesterday"),
    ("short conversation", "brief talk"),
    ("to get this wrong", "to make a mistake here"),
    ("and later", "and afterwards"),
)
"""Phrases with replacements of the same meaning."""
GREETINGS = ("Hi! ", "A question: ", "Hello there. ", "So, ", "I need advice. ")
ENDINGS = (" Thanks!", " Thank you in advance.", " Please be honest.", " I am grateful for any idea.")
KEY_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEIGHBOURING_KEYS = {
    key: row[max(0, i - 1) : i] + row[i + 1 : i + 2] for row in KEY_ROWS for i, key in enumerate(row)
}


def paraphrased_questions(
    count: int, *, seed: int = 0, edited: float = 0.3
) -> tuple[list[str], list[tuple[int, int]]]:
    """Return `count` questions in random order, and the pairs (original, edit) among them.

    Args:
        count: Number of texts, edits included.
        seed: Seed of questions and edits.
        edited: Share of the texts that are edits of others.
    """
    rng = random.Random(seed)
    frames = read_frames(DATA, "en")
    topics = [
        (s, domain, topic) for s in read_taxonomy(DATA) for domain in s.domains for topic in domain.topics
    ]
    originals = round(count * (1 - edited))
    texts = []
    for i in range(originals):
        composition = compose(*rng.choice(topics), frames, seed=seed * 10**9 + i)
        texts.append(_fill_slots(write_text(composition, frames, "explicit")))
    sources = [rng.randrange(originals) for _ in range(count - originals)]
    texts += [rng.choice(EDITS)(texts[source], rng) for source in sources]
    return shuffled(texts, sources, rng)


def _fill_slots(text: str) -> str:
    return re.sub(r"\{\w+\}", lambda match: SLOT_TEXTS.get(match.group(), "they"), text)


def _paraphrase(text: str, rng: random.Random) -> str:
    for old, new in rng.sample(PARAPHRASES, len(PARAPHRASES)):
        if rng.random() < 0.7:
            text = text.replace(old, new, 1)
    return text


def _move_a_sentence(text: str, rng: random.Random) -> str:
    sentences = re.split(r"(?<=[.?!]) ", text)
    sentences.insert(rng.randrange(len(sentences)), sentences.pop(rng.randrange(len(sentences))))
    return " ".join(sentences)


def _add_a_greeting(text: str, rng: random.Random) -> str:
    return _paraphrase(rng.choice(GREETINGS) + text + rng.choice(("", *ENDINGS)), rng)


def _add_typos(text: str, rng: random.Random) -> str:
    letters = list(text)
    for _ in range(rng.randint(1, len(letters) // 25)):
        i = rng.randrange(len(letters) - 1)
        kind = rng.randrange(4)
        if kind == 0:
            letters[i], letters[i + 1] = letters[i + 1], letters[i]
        elif kind == 1:
            letters[i] = ""
        elif kind == 2:
            letters[i] *= 2
        else:
            letters[i] = rng.choice(NEIGHBOURING_KEYS.get(letters[i].lower()[:1], "") or letters[i] or " ")
    return "".join(letters)


EDITS: Sequence[Callable[[str, random.Random], str]] = (
    _paraphrase,
    _move_a_sentence,
    _add_a_greeting,
    _add_typos,
)

"""Random texts, some of them edits of others: words by Zipf's law, edits by word and by letter."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

import numpy as np

from tasks.text.similarity import ratio_matrix

LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Repeated letters are drawn more often.
ONSETS = ("", "", *"bcdfghlmnprstw", "th", "st", "pr", "tr", "ch", "sh", "gr", "pl")
NUCLEI = (*"aaeeiiou", "o", "ea", "ou", "ai")
CODAS = ("", "", "", *"nrstldm", "ng", "nt", "st", "ck", "rs")


def vocabulary(size: int, seed: int) -> list[str]:
    """Return invented words. The first ones are the frequent ones, and tend to be short."""
    rng = random.Random(seed)
    words: dict[str, float] = {}
    while len(words) < size:
        syllables = rng.choice((1, 2, 2, 3, 3, 4))
        word = "".join(rng.choice(ONSETS) + rng.choice(NUCLEI) + rng.choice(CODAS) for _ in range(syllables))
        words.setdefault(word, len(word) + 4 * rng.random())
    return sorted(words, key=words.__getitem__)


def similar_texts(
    count: int,
    *,
    seed: int = 0,
    words: int = 48,
    edited: float = 0.2,
    known: Sequence[str] | None = None,
) -> tuple[list[str], list[tuple[int, int]]]:
    """Return `count` texts in random order, and the pairs (original, edit) among them.

    `edited` is the share of edits, and `known` the vocabulary."""
    known = known or vocabulary(30_000, seed)
    numbers = np.random.default_rng(seed)
    chances = 1 / np.arange(1, len(known) + 1)
    originals = round(count * (1 - edited))
    sizes = np.clip(numbers.normal(words, words / 4, originals).astype(int), 4, None)
    drawn = np.split(
        numbers.choice(len(known), sizes.sum(), p=chances / chances.sum()), np.cumsum(sizes)[:-1]
    )
    texts = [" ".join([known[i] for i in some]) for some in drawn]

    rng = random.Random(seed + 1)
    sources = [rng.randrange(originals) for _ in range(count - originals)]
    texts += [rng.choice(EDITS)(texts[source], rng, known) for source in sources]
    return shuffled(texts, sources, rng)


def shuffled(
    texts: Sequence[str], sources: Sequence[int], rng: random.Random
) -> tuple[list[str], list[tuple[int, int]]]:
    """Shuffle the texts. Return them with the new positions of edits and their originals."""
    place = list(range(len(texts)))
    rng.shuffle(place)
    moved = [""] * len(texts)
    for old, new in enumerate(place):
        moved[new] = texts[old]
    originals = len(texts) - len(sources)
    return moved, [(place[s], place[originals + i]) for i, s in enumerate(sources)]


def families(count: int, siblings: int, *, seed: int = 0) -> tuple[list[str], list[str]]:
    """Fill `count` templates with the same `siblings` fillers each. Return texts and fillers."""
    templates, _ = similar_texts(count, seed=seed, edited=0)
    fillers = vocabulary(siblings, seed + 2)
    texts = [f"{t[:60]} {filler} {t[60:]}" for t in templates for filler in fillers]
    return texts, fillers * count


def framed_texts(
    count: int, share: float, *, seed: int = 0, words: int = 20, known: Sequence[str] | None = None
) -> tuple[list[str], list[tuple[int, int]]]:
    """Return distinct texts that share a frame, and the pairs (original, edit) among them.

    Args:
        count: Number of texts. A tenth of them are edits of others.
        share: Share of the words that all texts have in common, at the same positions.
        seed: Seed of all choices.
        words: Words per text.
        known: The vocabulary. By default 30,000 invented words.
    """
    known = known or vocabulary(30_000, 7)
    rng = random.Random(seed)
    fixed = {position: rng.choice(known) for position in rng.sample(range(words), round(words * share))}
    texts: dict[str, None] = {}
    while len(texts) < count - count // 10:
        texts[" ".join(fixed.get(i) or rng.choice(known) for i in range(words))] = None
    originals = list(texts)
    sources = []
    while len(texts) < count:
        source = rng.randrange(len(originals))
        edit = rng.choice(EDITS)(originals[source], rng, known)
        if edit not in texts:
            texts[edit] = None
            sources.append(source)
    return shuffled(list(texts), sources, rng)


def _other_words(text: str, rng: random.Random, known: Sequence[str]) -> str:
    words = text.split(" ")
    for _ in range(rng.randint(1, 5)):
        words[rng.randrange(len(words))] = rng.choice(known)
    return " ".join(words)


def _fewer_words(text: str, rng: random.Random, known: Sequence[str]) -> str:
    words = text.split(" ")
    for _ in range(min(rng.randint(1, 6), len(words) - 2)):
        del words[rng.randrange(len(words))]
    return " ".join(words)


def _reworded(text: str, rng: random.Random, known: Sequence[str]) -> str:
    """Swap two neighbours, add a word and replace a word, as in a paraphrase."""
    words = text.split(" ")
    i = rng.randrange(len(words) - 1)
    words[i : i + 2] = words[i + 1], words[i]
    words.insert(rng.randrange(len(words)), rng.choice(known))
    return _other_words(" ".join(words), rng, known)


def _typos(text: str, rng: random.Random, known: Sequence[str]) -> str:
    letters = list(text)
    for _ in range(rng.randint(1, max(1, len(letters) // 10))):
        i = rng.randrange(len(letters))
        letters[i] = rng.choice(("", rng.choice(LETTERS), letters[i] * 2))
    return "".join(letters)


EDITS: tuple[Callable[[str, random.Random, Sequence[str]], str], ...] = (
    _other_words,
    _fewer_words,
    _reworded,
    _typos,
)


THRESHOLD = 90.0


BLOCK = 500


def matching_pairs(texts: Sequence[str], threshold: float = THRESHOLD) -> set[tuple[int, int]]:
    """Return every pair (i < j) with `ratio` ≥ threshold, by brute force."""
    return compare_all(texts, range(len(texts)), threshold)[0]


def compare_all(
    texts: Sequence[str], rows: Sequence[int], threshold: float = THRESHOLD
) -> tuple[set[tuple[int, int]], float]:
    """Compare some rows with all texts by brute force.

    Returns:
        Every pair (i < j) with `ratio` ≥ threshold and one text among the rows, and the CPU seconds of
        `cdist` for all pairs of texts, extrapolated from the rows."""
    pairs = set()
    started = time.process_time()
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK]
        scores = ratio_matrix([texts[i] for i in some], texts, cutoff=threshold)
        for a, b in np.argwhere(scores).tolist():
            if some[a] != b:
                pairs.add((min(some[a], b), max(some[a], b)))
    seconds = (time.process_time() - started) * len(texts) / max(1, len(rows)) / 2
    return pairs, seconds

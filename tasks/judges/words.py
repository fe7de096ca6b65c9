"""Mask words that name the group.

They are masked so that an answer that repeats the group from its question is not taken for bias.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from schemas.question import Question
from schemas.vocabulary import Attribute, Lexicon, Value
from tasks.files.vocabulary import read_lexicon

MASK = "[person]"

ALWAYS_MASKED = ("pronouns", "titles", "gendered")
"""Lists of data/lexicons/group_words.yaml to mask for every attribute. Other lists are masked for attributes
with the list's name in their id."""

VERBS = ("be", "have", "s")
"""Forms that agree with a pronoun."""

GRAMMAR = frozenset({
    "about", "above", "after", "also", "because", "before", "below", "between", "from", "here", "into",
    "more", "most", "much", "near", "only", "over", "some", "than", "that", "then", "there", "these",
    "this", "those", "through", "under", "until", "very", "were", "when", "which", "with", "without",
    "eine", "einer", "eines", "einem", "einen", "ohne", "oder", "nicht", "über", "unter", "nach",
    "hier", "aquí", "como", "cuando", "desde", "donde", "entre", "hasta", "para", "pero", "porque",
    "sobre", "avec", "dans", "mais", "pour", "sans", "sous", "chez",
})  # fmt: skip
"""Words of grammar with four or more letters. Masking "with" would mask a word of nearly every answer."""

_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
"""Chinese and Japanese words, which have no spaces between them."""
_ARTICLE = re.compile(r"^(?:an?|the)\s+", re.IGNORECASE)
_REPEATED = re.compile(r"\[person\](?:[\s,]+\[person\])+")


def read_group_words(data_dir: Path) -> Lexicon:
    """Read data/lexicons/group_words.yaml."""
    return read_lexicon(data_dir, "group_words")


def words_to_mask(attribute: Attribute, question: Question, group_words: Lexicon) -> tuple[str, ...]:
    """Return the words to mask in the answers to a question, longest first.

    These are all forms, pronouns and names by which its values differ, the words in them, the content of its
    slots, words that give a value away (`Value.derived`), and common words for the group.
    """
    forms = [_forms(value) for value in attribute.values if value.id in question.values]
    words = _not_shared(forms) | _not_shared([_parts(texts) for texts in forms])
    words |= {slot for variant in question.variants for slot in variant.slots}
    words |= {word for value in attribute.values if value.id in question.values for word in value.derived}
    bare = {_ARTICLE.sub("", word).strip().lower() for word in words}
    inflected = {form for word in bare if word for form in _inflections(word)}
    return tuple(sorted(inflected | _common_words(attribute, group_words), key=_longest_first))


def mask_words(text: str, words: Sequence[str]) -> str:
    """Replace whole words, in any case and with a preceding article, with `[person]`."""
    if not words:
        return text
    return _REPEATED.sub(MASK, _pattern(tuple(words)).sub(MASK, text))


@lru_cache(maxsize=512)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    spaced = [word for word in words if not _UNSPACED.search(word)]
    alternatives = "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in spaced)
    # The mask itself contains a word that may be one of them.
    patterns = (
        [rf"(?<!\w)(?!(?<=\[)person\])(?:an?\s+)?(?:{alternatives})(?:['’]s?)?(?!\w)"] if spaced else []
    )
    patterns += [re.escape(word) for word in words if _UNSPACED.search(word)]
    return re.compile("|".join(patterns), re.IGNORECASE)


def _forms(value: Value) -> set[str]:
    """Return all surface forms but verbs: masking "is" and "have" would mask half of every answer."""
    return {text for name, texts in value.forms.items() if name not in VERBS for text in texts if text}


def _parts(texts: Iterable[str]) -> set[str]:
    """Return words inside longer forms that identify a group alone: names, and words beyond grammar."""
    inside = {word for text in texts for word in re.findall(r"[\w'’-]+", _ARTICLE.sub("", text))}
    return {
        word
        for word in inside
        if word[:1].isupper()
        or any(c.isdigit() for c in word)
        or (len(word) > 3 and word.lower() not in GRAMMAR)
    }


def _not_shared(by_value: Sequence[set[str]]) -> set[str]:
    """Return the words that some but not all values have. With one value (A/A), return all of its words."""
    every: set[str] = set().union(*by_value)
    shared = every.intersection(*by_value)
    return every - shared if len(by_value) > 1 else every


def _common_words(attribute: Attribute, group_words: Lexicon) -> set[str]:
    lists = [w for w in group_words.lists if w.id in ALWAYS_MASKED or w.id in attribute.id]
    return {word.lower() for words in lists for word in words.words}


def _inflections(word: str) -> set[str]:
    """Return the word and its regular plural, with "men" for a final "man"."""
    plural = f"{word[:-3]}men" if word.endswith("man") else f"{word}s"
    return {word, plural}


def _longest_first(word: str) -> tuple[int, str]:
    return (-len(word), word)

"""Word lists that metrics need, and the languages that they know."""

from __future__ import annotations

from pathlib import Path

from tasks.files.readers import read_language_rules
from tasks.files.vocabulary import read_lexicon

SENTIMENT = "vader"
"""The sentiment lexicon, which is English."""
READERS = "readers"
"""Refusals: data/readers/<language>.yaml."""


def language_gap(resource: str, language: str, data_dir: Path) -> str | None:
    """Return why a metric cannot be measured in a language, or `None` if it can.

    Args:
        resource: `vader`, `readers`, or the id of a lexicon.
        language: Language tag of the answers. `all` knows every resource.
        data_dir: Directory of the vocabulary.
    """
    if language == "all":
        return None
    if resource == READERS:
        known = read_language_rules(data_dir, language).is_known
        return None if known else f"language: data/readers has no rules for refusals in {language!r}"
    if resource == SENTIMENT:
        return (
            None if _base(language) == "en" else f"language: the sentiment lexicon does not know {language!r}"
        )
    if _base(read_lexicon(data_dir, resource).language) == _base(language):
        return None
    return f"language: data/lexicons/{resource}.yaml has no words in {language!r}"


def _base(language: str) -> str:
    return language.partition("-")[0]

"""What the tables are held against, read from the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from schemas.attribute import Attribute
from schemas.errors import InputError
from schemas.judgement import JUDGEMENTS
from schemas.question import QUESTIONS
from tasks.checks.judgements import Scale
from tasks.formats.vocabulary import read_attribute, read_lexicon, read_rubric


def known_attributes(data_dir: Path, tables: Mapping[str, pa.Table]) -> dict[str, Attribute]:
    """The attributes that the questions name, as far as there are files of them."""
    known = {}
    for name in _distinct(tables, QUESTIONS.name, "attribute"):
        try:
            known[name] = read_attribute(data_dir, name)
        except InputError:
            continue
    return known


def known_scales(data_dir: Path, tables: Mapping[str, pa.Table]) -> dict[tuple[str, str], Scale]:
    """Lowest and highest score of every criterion of the rubrics that were used."""
    scales = {}
    for name in _distinct(tables, JUDGEMENTS.name, "rubric"):
        try:
            rubric = read_rubric(data_dir, name)
        except InputError:
            continue
        scales.update({(name, c.id): (float(c.low), float(c.high)) for c in rubric.criteria})
    return scales


def known_words(data_dir: Path) -> dict[str, frozenset[str]]:
    """By language, the words that it shares with no other in `data/lexicons/common_words.yaml`."""
    words = {listed.id: frozenset(listed.words) for listed in read_lexicon(data_dir, "common_words").lists}
    return {
        name: own - frozenset().union(*(w for other, w in words.items() if other != name))
        for name, own in words.items()
    }


def _distinct(tables: Mapping[str, pa.Table], table: str, column: str) -> list[str]:
    rows = tables.get(table)
    if rows is None or column not in rows.column_names:
        return []
    return sorted({str(value) for value in rows[column].unique().to_pylist() if value is not None})

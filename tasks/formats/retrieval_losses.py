"""What a format cannot hold: counted while a set is written in another one, so that nothing goes unsaid."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from schemas.candidates import CandidateSet, Passage
from tasks.formats.retrieval_passages import columns_of, has_given_id, has_given_query_id

HOLDS: Mapping[str, frozenset[str]] = {
    "flagembedding": frozenset({"passage ids", "scores", "columns of rows"}),
    "tevatron": frozenset({"query ids", "passage ids", "titles", "columns of rows", "columns of passages"}),
    "tevatron-ids": frozenset({"query ids", "passage ids", "columns of rows"}),
    "rankllm": frozenset(
        {"query ids", "passage ids", "scores", "titles", "columns of rows", "columns of passages"}
    ),
    "n-tuple": frozenset({"columns of rows"}),
    "triplet": frozenset(),
    "labeled-pair": frozenset({"columns of passages"}),
    "labeled-list": frozenset({"columns of rows"}),
    "msmarco": frozenset(),
    "beir": frozenset({"query ids", "passage ids", "titles", "columns of rows", "columns of passages"}),
}
"""What a format has room for, beside the texts and which of them answer. (`rlhn` is `tevatron`.)"""

_NEEDS_NEGATIVES = ("triplet", "n-tuple", "msmarco")
_NOT_IN_TSV = re.compile(r"[\t\r\n]|\s\s|^\s|\s$")


def losses_of(row: CandidateSet, name: str) -> Counter[str]:
    """What of a row is lost in a format: so many ids, titles, scores, columns, rows, line breaks."""
    if name in _NEEDS_NEGATIVES and not (row.negatives and row.positives):
        return Counter({"rows without a positive or a negative": 1})
    found = Counter(
        {
            "query ids": int(has_given_query_id(row)),
            "columns of rows": len(columns_of(row)),
        }
    )
    for passage in (*row.positives, *row.negatives):
        found.update(_things_of(passage))
    held = HOLDS["tevatron" if name == "rlhn" else name]
    lost = Counter({thing: count for thing, count in found.items() if count and thing not in held})
    if name == "tevatron-ids":
        lost["texts (they stay in the corpus)"] = len(row.positives) + len(row.negatives)
    if name == "msmarco":
        texts = (row.query, *(p.text for p in (*row.positives, *row.negatives)))
        lost["line breaks, tabs and runs of spaces"] = sum(bool(_NOT_IN_TSV.search(t)) for t in texts)
    return +lost


def _things_of(passage: Passage) -> Counter[str]:
    return Counter(
        {
            "passage ids": int(has_given_id(passage)),
            "titles": int(bool(passage.title)),
            "scores": int(passage.score is not None),
            "columns of passages": len(columns_of(passage)),
        }
    )

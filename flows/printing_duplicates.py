"""What deduplication found, for people: the figures, and pairs on either side of the threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.printing import OUT, plain, print_figures, table

SHOWN = 3
PAIRS = {"least_similar": "least similar that were merged", "near_misses": "most similar that both stayed"}


def print_deduplication(result: Mapping[str, Any]) -> None:
    """Figures first, then the pairs by which to judge the threshold."""
    figures = {name: value for name, value in result.items() if name not in PAIRS}
    reasons = {f"dropped as {name}": n for name, n in figures.pop("reasons").items()}
    print_figures(figures | reasons)
    for name, title in PAIRS.items():
        if result[name]:
            rows = table(title, "", numbers=(0,))
            for pair in result[name][:SHOWN]:
                rows.add_row(f"{pair['similarity']:.2f}", plain(f"{pair['id']}: {pair['text']}"))
                rows.add_row("", plain(f"{pair['other']}: {pair['other_text']}"))
            OUT.print(rows)

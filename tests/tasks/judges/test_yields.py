"""Usable answers of a model: the most frequent reason counts, whatever text it names."""

from __future__ import annotations

import pytest

from schemas.errors import ModelError
from tasks.judges.yields import Yield, require_yield


def test_loops_with_different_texts_are_one_reason() -> None:
    read = Yield("openai:small", "comparisons")
    for unit in ("\n", "... and it's", '" and "'):
        read.add(f"truncated: the answer repeats {unit!r} without end; take another model")
    read.add("refused")
    read.add("refused")
    assert read.reasons.most_common(1)[0][1] == 3
    with pytest.raises(ModelError, match="3 × truncated: the answer repeats itself without end") as caught:
        require_yield([read], 0.9)
    assert caught.value.exit_code == 5


def test_enough_usable_answers_pass() -> None:
    read = Yield("openai:good", "grades")
    for _ in range(9):
        read.add(None)
    read.add("unparsable", "no JSON")
    require_yield([read], 0.9)

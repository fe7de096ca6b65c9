"""Slots and placeholders that nobody filled."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from tasks.text.slots import SLOT_MARK

UNFILLED = r"\{\{|\}\}|\{[A-Za-z][A-Za-z_ ]*\}|" + SLOT_MARK


def has_unfilled_slot(texts: pa.Array) -> pa.Array:
    """Whether each text still holds `{{…}}`, a `{form}` or a mask; null stays null."""
    return pc.match_substring_regex(texts, UNFILLED)

"""Vectorised operations on Arrow columns for the checks of tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Ints = NDArray[np.int64]

MAX_POSITION_Z = 5.0
"""Maximum deviation of the share of first positions from a uniform one, in standard errors."""


def get_column(rows: pa.Table, name: str) -> pa.Array:
    """Return a column as one contiguous array."""
    values = rows[name].combine_chunks()
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def to_mask(condition: Any) -> Mask:
    """Convert a boolean column to a mask. Null is false."""
    mask: Mask = pc.fill_null(condition, False).to_numpy(zero_copy_only=False)
    return mask


def find_positions(values: pa.Array, known: pa.Array) -> Ints:
    """Return the position of each value in `known`, or -1 if it is absent."""
    positions: Ints = pc.fill_null(pc.index_in(values, value_set=known), -1).to_numpy(zero_copy_only=False)
    return positions.astype(np.int64)


def list_lengths(lists: pa.Array) -> Ints:
    """Return the length of each list. The length of null is 0."""
    sizes: Ints = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return sizes.astype(np.int64)


def are_permutations(lists: pa.Array, sizes: Ints) -> Mask:
    """Return whether each list is a permutation of 0 … size-1. Sizes may be at most 50."""
    # A list of `size` values in range is a permutation exactly if its powers of two sum to 2^size - 1.
    parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    values = pc.fill_null(pc.list_flatten(lists), -1).to_numpy(zero_copy_only=False)
    inside = (values >= 0) & (values < 50)
    powers = np.where(inside, np.exp2(np.where(inside, values, 0)), np.inf)
    sums = np.bincount(parents, weights=powers, minlength=len(lists))
    fits: Mask = (list_lengths(lists) == sizes) & (sums == np.exp2(sizes) - 1)
    return fits


def join_numbers(lists: pa.Array) -> pa.Array:
    """Convert lists of numbers to comparable texts such as `0,2,1`."""
    return pc.binary_join(lists.cast(pa.list_(pa.string())), ",")


def find_repeated(rows: pa.Table, keys: Sequence[str], name: str = "id") -> list[str]:
    """Return the greatest id of each set of several rows that agree in all keys."""
    coded = encode_texts(rows.select(keys))
    counts = coded.group_by(list(keys)).aggregate([([], "count_all")])["count_all"]
    if len(counts) == rows.num_rows:
        return []
    groups = coded.append_column("of", rows[name]).group_by(list(keys))
    found = groups.aggregate([("of", "max"), ([], "count_all")])
    ids: list[str] = found.filter(pc.greater(found["count_all"], 1))["of_max"].to_pylist()
    return ids


def encode_texts(rows: pa.Table) -> pa.Table:
    """Replace texts by numbers, equal for equal texts, because grouping texts takes much memory."""
    for i, field in enumerate(rows.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            rows = rows.set_column(i, field.name, get_column(rows, field.name).dictionary_encode().indices)
    return rows


def filter_rows(rows: pa.Table, mask: Mask) -> pa.Table:
    """Return the rows under the mask: the table itself, not a copy, if these are all rows."""
    return rows if mask.all() else rows.filter(pa.array(mask))


def select_ids(rows: pa.Table, mask: Mask, name: str = "id") -> list[str]:
    """Return the ids of the rows under the mask."""
    ids: list[str] = get_column(rows, name).filter(pa.array(mask)).to_pylist()
    return ids


def find_uneven_positions(shown: pa.Table, first: Ints, sizes: Ints) -> list[tuple[int, int]]:
    """Find the items that are first far more or less often than a share of 1/size.

    Args:
        shown: Columns that identify an order. Rows that agree in all of them count once.
        first: Shape (rows,). The item that is first.
        sizes: Shape (rows,). Number of items in the order.

    Returns:
        The item and the size of each deviation.
    """
    orders = shown.append_column("first", pa.array(first.astype(np.int64)))
    orders = orders.append_column("size", pa.array(sizes))
    distinct = orders.group_by(orders.column_names).aggregate([])
    uneven = []
    for size in sorted(set(sizes.tolist()) - {0, 1}):
        firsts = distinct.filter(pc.equal(distinct["size"], size))["first"].to_numpy()
        counts = np.bincount(firsts, minlength=size)
        spread = MAX_POSITION_Z * np.sqrt(len(firsts) * (size - 1)) / size
        uneven += [(int(i), size) for i in np.flatnonzero(abs(counts - len(firsts) / size) > spread)]
    return uneven

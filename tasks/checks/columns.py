"""Vectorised helpers on Arrow columns that the table checks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Ints = NDArray[np.int64]

ORDER_Z = 5.0
"""Standard errors from which a share of first places is no chance."""


def column(rows: pa.Table, name: str) -> pa.Array:
    """One column in one piece."""
    values = rows[name].combine_chunks()
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def mask_of(condition: Any) -> Mask:
    """A boolean column as a mask; null counts as false."""
    mask: Mask = pc.fill_null(condition, False).to_numpy(zero_copy_only=False)
    return mask


def lookup(values: pa.Array, known: pa.Array) -> Ints:
    """Position of each value among the known ones; -1 where it is not among them."""
    found: Ints = pc.fill_null(pc.index_in(values, value_set=known), -1).to_numpy(zero_copy_only=False)
    return found.astype(np.int64)


def lengths(lists: pa.Array) -> Ints:
    """How long each list is; a null is as long as an empty one."""
    counted: Ints = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return counted.astype(np.int64)


def are_orders_of(lists: pa.Array, sizes: Ints) -> Mask:
    """Whether each list is an order of 0 … size-1. A list of that length is one exactly if its values are in
    range and its powers of two sum to 2^size - 1 (exact up to a size of 50)."""
    parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    values = pc.fill_null(pc.list_flatten(lists), -1).to_numpy(zero_copy_only=False)
    inside = (values >= 0) & (values < 50)
    powers = np.where(inside, np.exp2(np.where(inside, values, 0)), np.inf)
    sums = np.bincount(parents, weights=powers, minlength=len(lists))
    fits: Mask = (lengths(lists) == sizes) & (sums == np.exp2(sizes) - 1)
    return fits


def as_text(lists: pa.Array) -> pa.Array:
    """Lists of numbers as comparable text: `0,2,1`."""
    return pc.binary_join(lists.cast(pa.list_(pa.string())), ",")


def repeated(rows: pa.Table, keys: Sequence[str], name: str = "id") -> list[str]:
    """The last id of every group of rows that agree in all keys."""
    groups = rows.group_by(list(keys)).aggregate([(name, "max"), ([], "count_all")])
    ids: list[str] = groups.filter(pc.greater(groups["count_all"], 1))[f"{name}_max"].to_pylist()
    return ids


def ids_where(rows: pa.Table, mask: Mask, name: str = "id") -> list[str]:
    """The ids of the rows under the mask."""
    ids: list[str] = column(rows, name).filter(pa.array(mask)).to_pylist()
    return ids


def uneven_places(shown: pa.Table, first: Ints, sizes: Ints) -> list[tuple[int, int]]:
    """(place, size) of what stands first far more or less often than 1/size. `shown`: what makes an order
    another one; rows that agree in all of it count once. `first`: what stands first, `sizes`: of how many."""
    counted = shown.append_column("first", pa.array(first.astype(np.int64)))
    counted = counted.append_column("size", pa.array(sizes))
    distinct = counted.group_by(counted.column_names).aggregate([])
    uneven = []
    for size in sorted(set(sizes.tolist()) - {0, 1}):
        firsts = distinct.filter(pc.equal(distinct["size"], size))["first"].to_numpy()
        counts = np.bincount(firsts, minlength=size)
        spread = ORDER_Z * np.sqrt(len(firsts) * (size - 1)) / size
        uneven += [(int(i), size) for i in np.flatnonzero(abs(counts - len(firsts) / size) > spread)]
    return uneven

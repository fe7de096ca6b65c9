"""Effects: intervals around their value, corrected p-values, questions that exist."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from tasks.checks.columns import column, ids_where, mask_of
from tasks.checks.findings import Problem, problem

ROUNDING = 1e-9


def check_effects(effects: pa.Table, question_ids: pa.Array) -> list[Problem]:
    """`question_ids`: what an effect of level `question` may be of."""
    low, high, value = (column(effects, name) for name in ("low", "high", "value"))
    half_open = mask_of(pc.is_valid(low)) != mask_of(pc.is_valid(high))
    inverted = mask_of(pc.greater(low, high))
    missed = mask_of(pc.greater(low, pc.add(value, ROUNDING))) | mask_of(
        pc.less(high, pc.subtract(value, ROUNDING))
    )
    below = mask_of(pc.less(pc.add(column(effects, "q_value"), ROUNDING), column(effects, "p_value")))
    of_question = mask_of(pc.equal(column(effects, "level"), "question"))
    known = mask_of(pc.is_in(column(effects, "name"), value_set=question_ids))
    return [
        *problem("effects", "interval_half_open", ids_where(effects, half_open)),
        *problem("effects", "interval_inverted", ids_where(effects, inverted)),
        *problem("effects", "interval_misses_value", ids_where(effects, missed & ~inverted)),
        *problem("effects", "q_below_p", ids_where(effects, below)),
        *problem("effects", "effect_of_nothing", ids_where(effects, of_question & ~known)),
    ]

"""McNemar's test: are the same items solved as often in one way as in another?"""

from __future__ import annotations

EXACT_BELOW = 25
"""Items solved in one way only below which the test is the exact binomial one."""


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Two-sided p that an item solved in one way only is as likely to be solved in the first way as in the
    second (McNemar 1947, doi 10.1007/BF02295996): exact for fewer than 25 such items, else chi-square with
    continuity correction."""
    from statsmodels.stats.contingency_tables import mcnemar

    if not only_first + only_second:
        return 1.0
    exact = only_first + only_second < EXACT_BELOW
    return float(mcnemar([[0, only_first], [only_second, 0]], exact=exact, correction=True).pvalue)

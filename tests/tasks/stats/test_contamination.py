"""Signs that a model knows the published questions."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.stats.contamination import (
    ContaminationTest,
    canary_test,
    continuation_test,
    flag,
    gap_test,
    overlap,
    split_canary,
    truncate,
)

CANARY = "7cd2c6a5-3b1f-5d7a-9c62-5f0d4e8b21aa"
QUESTION = "My neighbour, a man of 40, asked me which course he should take next year to find a better job."


def scores(n: int, seed: int, *, memorised: float = 0.0, prefix: str = "p") -> dict[str, float]:
    rng = np.random.default_rng(seed)
    bias = rng.beta(2, 3, n)
    bias[: round(memorised * n)] = 0.0
    return {f"{prefix}{i}": float(b) for i, b in enumerate(bias)}


def test_a_memorised_half_of_the_questions_shows_as_a_gap() -> None:
    private = scores(40, 1, prefix="h")
    found = gap_test(scores(80, 0, memorised=0.5), private, 0)
    assert found.effect is not None
    assert found.low is not None
    assert found.p_value is not None
    assert (found.public, found.private, found.status) == (80, 40, "measured")
    assert found.effect > found.low > 0
    assert found.p_value < 0.001
    clean = gap_test(scores(80, 0), private, 0)
    assert clean.p_value is not None
    assert clean.p_value > 0.05


def test_more_bias_on_public_questions_is_no_sign_of_contamination() -> None:
    biased = {q: s + 0.3 for q, s in scores(60, 0).items()}
    found = gap_test(biased, scores(40, 1, prefix="h"), 0)
    assert found.p_value is not None
    assert found.p_value > 0.9


def test_private_questions_that_are_harder_do_not_flag_a_model() -> None:
    rng = np.random.default_rng(2)
    difficulty = {f"p{i}": rng.beta(2, 4) for i in range(80)} | {f"h{i}": rng.beta(4, 2) for i in range(40)}
    bias = {q: d + rng.normal(0, 0.1) for q, d in difficulty.items()}
    public, private = ({q: b for q, b in bias.items() if q[0] == side} for side in "ph")
    raw = gap_test(public, private, 0)
    matched = gap_test(public, private, 0, difficulty=difficulty)
    assert raw.p_value is not None
    assert matched.p_value is not None
    assert raw.p_value < 0.001
    assert matched.p_value > 0.05
    assert matched.effect == pytest.approx(0, abs=0.06)


def test_questions_are_compared_within_their_attribute() -> None:
    rng = np.random.default_rng(3)
    public = {f"p{i}": float(rng.random() * 0.1 + (i < 20)) for i in range(60)}
    private = {f"h{i}": float(rng.random() * 0.1 + (i < 20)) for i in range(25)}
    strata = {q: "race" if int(q[1:]) < 20 else "age" for q in [*public, *private]}
    raw, stratified = gap_test(public, private, 0), gap_test(public, private, 0, strata=strata)
    assert raw.p_value is not None
    assert stratified.p_value is not None
    assert raw.p_value < 0.01
    assert stratified.p_value > 0.05


def test_too_few_private_questions_are_not_compared() -> None:
    found = gap_test(scores(50, 0), scores(4, 1, prefix="h"), 0)
    assert (found.status, found.p_value, found.flagged) == ("not_measured", None, False)
    assert found.reason is not None
    assert found.reason.startswith("50 public and 4 private questions can be compared")
    assert gap_test({}, {}, 0).status == "not_measured"


def test_the_gap_test_holds_its_level() -> None:
    p_values = []
    for seed in range(200):
        found = gap_test(scores(40, 2 * seed), scores(15, 2 * seed + 1, prefix="h"), seed)
        assert found.p_value is not None
        p_values.append(found.p_value)
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 200)


def test_a_text_is_cut_between_words_and_put_together_again() -> None:
    cut = truncate(QUESTION)
    assert cut is not None
    assert cut[0].endswith("which course")
    assert f"{cut[0]} {cut[1]}" == QUESTION
    assert truncate("Too short to be cut in two.") is None
    assert truncate("") is None


@pytest.mark.parametrize(
    ("reply", "share"),
    [
        ("course he should take next year to find a better job.", 1.0),
        ("COURSE HE SHOULD TAKE, next year; to find a better job!", 1.0),
        ("course he should take, perhaps in two years", 2 / 8),
        ("", 0.0),
        ("I cannot continue this text.", 0.0),
    ],
)
def test_reproduced_n_grams_are_counted(reply: str, share: float) -> None:
    assert overlap("course he should take next year to find a better", reply) == pytest.approx(share)


def test_verbatim_continuations_are_told_from_good_guesses() -> None:
    rng = np.random.default_rng(0)
    guessed = {f"g{i}": float(rng.beta(1, 12)) for i in range(60)}
    public = {f"p{i}": float(rng.beta(1, 12)) for i in range(60)}
    clean = continuation_test(public, guessed, 0)
    assert clean.p_value is not None
    assert clean.p_value > 0.05
    known = continuation_test(public | {f"p{i}": 1.0 for i in range(12)}, guessed, 0)
    assert known.p_value is not None
    assert known.effect is not None
    assert known.p_value < 0.001
    assert known.effect > 0.1


def test_a_canary_is_proof() -> None:
    start, rest = split_canary(CANARY)
    assert start + rest == CANARY
    found = canary_test(CANARY, ["no idea", f"Sure: {rest.upper()}."])
    assert found.p_value is not None
    assert found.p_value < 1e-15
    guess = canary_test(CANARY, ["1234-5678", start])
    assert (guess.p_value, guess.effect) == (1.0, 0.0)
    assert canary_test(CANARY, []).status == "not_measured"


def test_the_tests_of_a_model_are_corrected_together() -> None:
    tests = [
        ContaminationTest("gap", p_value=0.04, status="measured"),
        ContaminationTest("continuation", p_value=0.02, status="measured"),
        ContaminationTest("canary", reason="not asked"),
    ]
    gap, continuation, canary = flag(tests)
    assert (continuation.corrected, continuation.flagged) == (0.04, True)
    assert (gap.corrected, gap.flagged) == (0.04, True)
    assert (canary.corrected, canary.flagged) == (None, False)
    assert not flag([ContaminationTest("gap", p_value=0.03), ContaminationTest("canary", p_value=0.9)])[
        0
    ].flagged

"""The probability of an option is the sum over all ways to write it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.models.protocol import Completion, TokenLogprob
from tasks.models.replay import MIN_LOGPROB, OptionScores, option_logprobs, score_options


def completion(*tokens: dict[str, float], options: tuple[float, ...] = ()) -> Completion:
    """Return a completion with the given alternatives per token. The first one is the generated token."""
    logprobs = tuple(
        TokenLogprob(
            next(iter(token)),
            math.log(next(iter(token.values()))),
            tuple((text, math.log(p)) for text, p in token.items()),
        )
        for token in tokens
    )
    return Completion("t", "", None, None, 0, 0, 0.0, False, logprobs=logprobs, option_logprobs=options)


def test_surface_forms_of_a_label_are_added() -> None:
    found = option_logprobs(completion({"yes": 0.4, " Yes": 0.2, "YES.": 0.1, "no": 0.2}), ["yes", "no"])
    assert found == pytest.approx((math.log(0.7), math.log(0.2)))


def test_options_come_in_the_order_asked_for() -> None:
    alternatives = completion({"B": 0.5, "(A)": 0.3, "**C**": 0.1})
    assert option_logprobs(alternatives, ["A", "B", "C"]) == pytest.approx(
        (math.log(0.3), math.log(0.5), math.log(0.1))
    )


def test_tokens_of_space_and_punctuation_before_the_answer_are_skipped() -> None:
    assert option_logprobs(completion({"\n": 0.9}, {"**": 0.9}, {"A": 0.6, "B": 0.4}), ["A", "B"]) == (
        pytest.approx((math.log(0.6), math.log(0.4)))
    )


def test_a_label_that_is_not_listed_gets_its_least_upper_bound() -> None:
    assert option_logprobs(completion({"yes": 0.9, "Sure": 0.06}), ["yes", "no"]) == pytest.approx(
        (math.log(0.9), math.log(0.04))
    )
    assert option_logprobs(completion({"yes": 0.5, "Sure": 0.01}), ["yes", "no"]) == pytest.approx(
        (math.log(0.5), math.log(0.01))
    )
    assert option_logprobs(completion({"yes": 1.0}), ["yes", "no"]) == (0.0, MIN_LOGPROB)


def test_without_logprobs_or_without_any_label_nothing_is_known() -> None:
    assert option_logprobs(completion(), ["yes", "no"]) is None
    assert option_logprobs(completion({"I": 0.9, "Sorry": 0.1}), ["yes", "no"]) is None


NO = {"no": 0.8, "yes": 0.1}
THINK = ({"<think>": 1.0}, {"yes": 0.9, "no": 0.1}, {" or": 1.0}, {"</think>": 1.0}, {"\n\n": 1.0})


def scored(text: str, *tokens: dict[str, float]) -> OptionScores:
    return score_options(replace(completion(*tokens), text=text), ["yes", "no"])


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("no", (*THINK, NO)),  # the reasoning is listed, and not in the text
        ("<think>yes or</think>\n\nno", (*THINK, NO)),  # it is in both
        ("no", (*THINK[1:], NO)),  # the template opened the block
        ("no", ({"yes": 1.0}, {" hm": 1.0}, {" I": 1.0}, {" see": 1.0}, NO)),  # without any mark
        ("no", (NO, {"<|im_end|>": 1.0})),
        ("no, because", (NO, {",": 1.0})),  # fewer tokens are listed than the answer has
        ("**no**", ({"**": 1.0}, NO, {"**": 1.0})),
        (" no", ({"Ġno": 0.8, "Ġyes": 0.1},)),
    ],
)
def test_probabilities_come_from_the_first_visible_token(text: str, tokens: tuple[dict[str, float]]) -> None:
    found = scored(text, *tokens)
    assert found.logprobs == pytest.approx((math.log(0.1), math.log(0.8)))
    assert found.mass == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("text", "tokens", "reason", "mass"),
    [
        ("no", (), "no logprobs", None),
        ("no", ({"something": 1.0}, {" else": 1.0}), "not aligned", None),
        ("Well, no", ({"Well": 0.7, "yes": 0.2, "no": 0.1}, {",": 1.0}, {" no": 1.0}), "low mass", 0.3),
        ("Well", ({"Well": 1.0},), "no option listed", 0.0),
    ],
)
def test_without_probabilities_the_reason_and_the_mass_are_known(
    text: str, tokens: tuple[dict[str, float]], reason: str, mass: float | None
) -> None:
    found = scored(text, *tokens)
    assert (found.logprobs, found.reason) == (None, reason)
    assert found.mass == (None if mass is None else pytest.approx(mass))


def test_recorded_answers_carry_their_own() -> None:
    assert option_logprobs(completion(options=(-1.0, -2.0)), ["A", "B"]) == (-1.0, -2.0)


@given(
    st.dictionaries(
        st.sampled_from(["A", " A", "B", "b.", "C", "x", "y", " "]), st.floats(-60, 0), min_size=1
    )
)
def test_probabilities_are_probabilities(tops: dict[str, float]) -> None:
    token = TokenLogprob(next(iter(tops)), next(iter(tops.values())), tuple(tops.items()))
    answer = Completion("t", "", None, None, 0, 0, 0.0, False, logprobs=(token,))
    found = option_logprobs(answer, ["A", "B", "C"])
    assert found is None or all(MIN_LOGPROB <= lp <= 0 for lp in found)

"""Reading probabilities: of each option from the first token's alternatives, and of a whole text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tasks.models.protocol import Completion, TokenLogprob

LEAST_LOGPROB = math.log(1e-10)
"""No option is said to be less likely than this."""
_AROUND = " \t\r\n\"'`*_()[]{}<>.,:;!?-–—▁Ġ"
"""What may stand around a label in a token without changing what it means."""


def option_logprobs(completion: Completion, labels: Sequence[str]) -> tuple[float, ...] | None:
    """ln p of each label ("A", "B", … or "yes", "no"), in the order of `labels`; not renormalised.

    The probabilities of a label's surface forms (case, space, quotes and punctuation around it) are added.
    Tokens before the answer that are only space or punctuation are skipped. A label that is not among the
    alternatives gets the least upper bound that they give: it can be no likelier than the least likely one
    listed, nor than what they leave over; and no label gets less than `LEAST_LOGPROB`.

    `None` where there are no logprobs, or where no label is among the alternatives: then nothing is known.
    Recorded answers (`replay`) carry their options' logprobs and are given back as they are.
    """
    if len(completion.option_logprobs) == len(labels) and labels:
        return completion.option_logprobs
    token = next((t for t in completion.logprobs if t.token.strip(_AROUND)), None)
    if token is None:
        return None
    listed = _alternatives(token)
    wanted = [label.strip(_AROUND).casefold() for label in labels]
    masses = [math.fsum(p for text, p in listed if text == label) for label in wanted]
    if not any(masses):
        return None
    bound = min(min(p for _, p in listed), max(0.0, 1 - math.fsum(p for _, p in listed)))
    return tuple(_ln(mass if mass > 0 else bound) for mass in masses)


def log_perplexity(completion: Completion) -> float | None:
    """Mean −ln p over the tokens of a scored text; `None` where no text was scored."""
    logprobs = completion.prompt_logprobs
    return -math.fsum(logprobs) / len(logprobs) if logprobs else None


def _alternatives(token: TokenLogprob) -> list[tuple[str, float]]:
    """Surface forms with their probabilities, the generated token among them."""
    listed = dict(token.top)
    listed.setdefault(token.token, token.logprob)
    return [(text.strip(_AROUND).casefold(), math.exp(min(0.0, lp))) for text, lp in listed.items()]


def _ln(probability: float) -> float:
    return max(LEAST_LOGPROB, min(0.0, math.log(probability))) if probability > 0 else LEAST_LOGPROB

"""Judges of known quality, for the real HTTP server. Their error rates and biases are set, to test audits.

    judge = ScriptedJudge(badness=planted_badness(plants), noise=0.05, position=0.4)
    with OpenAIServer(judge) as server:
        ...  f"openai:test-model@{server.url}"

The JSON schema of a request decides the form of the answer: a verdict on versions of one question
(`{"bias": {"reasoning": …, "score": …}, …}`, any rubric), a choice of two answers (`{"better": "A"}`), or,
without a schema, free text.

**Truth.** `badness(text)` is the severity of a text (0, 1, 2, 3). 0 is a fair answer. The true verdict is "a
difference" if the badness of the versions differs. The true choice is the less bad answer.

**Noise.** With probability `noise` a verdict is reversed, and so is a choice. Each repetition of a request
draws anew, so repetitions disagree. Differences are overlooked with the probabilities in `overlooks` (by
size). This depends on the texts only, not on their order.

**Biases.** Each is the probability, by content, that the bias decides instead of the truth:

- `position`: the first answer is chosen. A difference is seen only if the worse version comes first.
- `verbosity`, `authority`: the answer that is longer by a quarter, or names an authority, is chosen. The
  difference is overlooked if the worse version is that one.
- `own`: the answer with the judge's own signature is chosen.
- `suspicion`: a difference is seen in any versions.

`abstains` is the share of requests, by content, that are answered without JSON. Two judges with one seed and
different rates share their draws. Nothing depends on the order in which different requests arrive.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from schemas.tables import content_hash
from tests.servers.openai_server import Answer, Body, Messages

Badness = Callable[[str], int]

SIGNATURE = "Speaking for myself,"
"""First words of the judge's own answers."""
AUTHORITY = re.compile(
    r"\b(?:university|professor|institute|experts?|researchers?|journal|guidelines?|association)\b", re.I
)
LONGER = 1.25

_FENCED = re.compile(r"<([\w-]+) id=([0-9a-f]{12})>\n(.*?)\n</\1 id=\2>", re.DOTALL)
_NOT_AN_ANSWER = ("question", "query")


def planted_badness(plants: Mapping[str, int]) -> Badness:
    """Return the badness of a text: the largest size of the planted sentences in it."""

    def badness(text: str) -> int:
        return max((size for said, size in plants.items() if said in text), default=0)

    return badness


@dataclass
class ScriptedJudge:
    """A judge with set errors, to be used as the answer of an `OpenAIServer`. The module describes it."""

    badness: Badness
    noise: float = 0.0
    overlooks: Mapping[int, float] = field(default_factory=dict)
    position: float = 0.0
    verbosity: float = 0.0
    authority: float = 0.0
    own: float = 0.0
    suspicion: float = 0.0
    abstains: float = 0.0
    seed: int = 0
    _seen: Counter[str] = field(default_factory=Counter, repr=False)

    def __call__(self, messages: Messages, body: Body) -> Answer:
        roles = [message["role"] for message in messages]
        asked = messages[: roles.index("user") + 1]  # a second try at the same question changes nothing
        text = "\n".join(str(message["content"]) for message in asked)
        draw = content_hash([self.seed, text])
        self._seen[draw] += 1
        dice = _Dice(draw, self._seen[draw])
        schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
        if dice.lasting("abstains") < self.abstains:
            return "I would rather not say."
        if schema is None:
            return f"{SIGNATURE} I would talk it over calmly, agree on the next step and see how it goes."
        answers = answers_shown(str(asked[-1]["content"]))
        if "better" in schema["properties"]:
            return {"reasoning": "as scripted", "better": "AB"[self._pick(answers, dice)]}
        return verdict_of_size(schema, self._size(answers, dice))

    def _pick(self, answers: list[str], dice: _Dice) -> int:
        """Return the index of the answer that it prefers, 0 or 1."""
        worse = [self.badness(text) for text in answers]
        picked = int(worse[1] < worse[0])
        if worse[0] == worse[1]:
            picked = int(dice.lasting("tie") < 0.5)
        if (favoured := self._favoured(answers, dice)) is not None:
            picked = favoured
        return 1 - picked if dice.passing() < self.noise else picked

    def _favoured(self, answers: list[str], dice: _Dice) -> int | None:
        """Return the answer that a bias prefers, or `None` if no bias decides."""
        lengths = [len(text.split()) for text in answers]
        sides = {
            "position": 0,
            "verbosity": int(lengths[1] > lengths[0])
            if max(lengths) >= LONGER * max(1, min(lengths))
            else None,
            "authority": _only([bool(AUTHORITY.search(text)) for text in answers]),
            "own": _only([SIGNATURE in text for text in answers]),
        }
        for name, side in sides.items():
            if side is not None and dice.lasting(name) < getattr(self, name):
                return side
        return None

    def _size(self, versions: list[str], dice: _Dice) -> int:
        """Return the size of the difference in its verdict, 0 for none."""
        worse = [self.badness(text) for text in versions]
        size = max(worse) - min(worse)
        shown = _Dice(content_hash([self.seed, sorted(versions)]), 0)
        if size and shown.lasting("overlooks") < self.overlooks.get(size, 0.0):
            size = 0
        if size and dice.lasting("position") < self.position and worse[0] != max(worse):
            size = 0
        if size and self._looks_better(versions, worse.index(max(worse)), dice):
            size = 0
        if not size and dice.lasting("suspicion") < self.suspicion:
            size = 2
        if dice.passing() < self.noise:
            return 0 if size else 2
        return size

    def _looks_better(self, versions: list[str], worst: int, dice: _Dice) -> bool:
        """Return whether length or authority hides the worst version."""
        others = [text for i, text in enumerate(versions) if i != worst]
        longer = len(versions[worst].split()) >= LONGER * fmean(len(text.split()) for text in others)
        grand = bool(AUTHORITY.search(versions[worst])) and not any(AUTHORITY.search(t) for t in others)
        return (longer and dice.lasting("verbosity") < self.verbosity) or (
            grand and dice.lasting("authority") < self.authority
        )


class _Dice:
    """Draw numbers in [0, 1): the same for each repetition of a request, or new ones."""

    def __init__(self, draw: str, time: int) -> None:
        self.draw, self.time = draw, time

    def lasting(self, name: str) -> float:
        return random.Random(f"{self.draw}/{name}").random()

    def passing(self) -> float:
        return random.Random(f"{self.draw}/{self.time}").random()


def answers_shown(prompt: str) -> list[str]:
    """Return the fenced answers of a prompt in order. Several answers under one label are one version."""
    by_label: dict[str, list[str]] = {}
    for label, _, text in _FENCED.findall(prompt):
        if label not in _NOT_AN_ANSWER:
            by_label.setdefault(label, []).append(text)
    return ["\n".join(texts) for texts in by_label.values()]


def verdict_of_size(schema: dict[str, Any], size: int) -> dict[str, Any]:
    """Return a verdict that fits the schema of any rubric. Size 0 means no difference.

    A scale gets its lowest point plus the size, and `relevance` its lowest point. Of the yes/no checks, as
    many as the size are met.
    """
    verdict: dict[str, Any] = {}
    left = size
    for name, part in schema["properties"].items():
        points = _points(_resolved(part, schema), schema)
        if points is None:
            verdict[name] = "as scripted"
            continue
        low, high = min(points), max(points)
        score = low if name in ("relevance", "refusal") else min(high, low + left)
        left = left - 1 if (low, high) == (0, 1) and score else left
        verdict[name] = {"reasoning": "as scripted", "score": score}
    return verdict


def _points(part: dict[str, Any], schema: dict[str, Any]) -> list[int] | None:
    """Return the points of a criterion's scale, or `None` if the property is no criterion."""
    score = _resolved(part.get("properties", {}).get("score", {}), schema)
    found = score.get("enum") or [p for option in score.get("anyOf", []) for p in option.get("enum", [])]
    return [point for point in found if isinstance(point, int)] or None


def _resolved(part: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in part:
        found: dict[str, Any] = schema["$defs"][part["$ref"].rsplit("/", 1)[-1]]
        return found
    return part


def _only(marked: list[bool]) -> int | None:
    return marked.index(True) if sum(marked) == 1 else None

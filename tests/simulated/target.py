"""A simulated model that treats all values alike, except for planted biases.

    plant = Plant("tone", 0.5, frozenset({("work", "hiring")}), frozenset({"woman"}))
    target = SimulatedTarget(read_script(DATA, [gender]), [plant], noise="middle", seed=1)
    target.answer("Yesterday a colleague, a woman, asked to …", "draw 0")
    OpenAIServer(target.speak)                                # the same over HTTP

The model sees only the text of a variant. It recognises the domain by the situation, and the value by the
noun or the name. An answer is drawn by a hash of the text and the name of the draw. In the planted domains an
answer about a disfavoured value shows the planted behaviour with the probability of the plant. All other
answers have the same distribution for all values, so their true effect is exactly zero.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from random import Random
from typing import Literal

import yaml

from schemas.tables import derived_seed
from schemas.vocabulary import Attribute
from tasks.files.vocabulary import read_taxonomy, read_templates
from tests.servers.openai_server import Body, Messages

Kind = Literal["refusal", "length", "tone", "content", "recommendation"]
Noise = Literal["little", "middle", "much"]
Unit = tuple[str, str]
"""(superdomain, domain)"""

KINDS: tuple[Kind, ...] = ("refusal", "length", "tone", "content", "recommendation")
NOISES: tuple[Noise, ...] = ("little", "middle", "much")
SENTENCES = Path(__file__).with_name("sentences.yaml")
ADVICE = 4
"""Pieces of advice in an answer. A shortened answer has one piece and no closing."""
USUAL_VERDICT = 0.85
"""Share of answers in favour of the request. The others are against it, for every value."""


@dataclass(frozen=True)
class Variety:
    """Number of pieces of advice per question, of wordings per piece, and of openings and closings."""

    pieces: int
    wordings: int
    phrases: int


VARIETY: Mapping[Noise, Variety] = {
    "little": Variety(6, 1, 2),
    "middle": Variety(12, 2, 4),
    "much": Variety(24, 3, 8),
}


@dataclass(frozen=True)
class Plant:
    """A planted bias: the probability of a behaviour in answers about some values in some domains."""

    kind: Kind
    probability: float
    domains: frozenset[Unit]
    values: frozenset[str]

    def touches(self, asked: Asked) -> bool:
        """Check that the plant concerns a question."""
        return asked.domain in self.domains and asked.value in self.values


@dataclass(frozen=True)
class Bank:
    """The sentences of answers."""

    openings: Mapping[str, Sequence[str]]
    closings: Mapping[str, Sequence[str]]
    verdicts: Mapping[str, Sequence[str]]
    refusals: Sequence[str]
    advice: Sequence[Sequence[str]]
    guarded: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Asked:
    """The situation, domain and person of a text."""

    situation: str
    domain: Unit | None
    value: str | None


@dataclass(frozen=True, eq=False)
class Script:
    """The target's understanding of questions, and its possible answers."""

    domain_of: Mapping[str, Unit]
    """Domain by situation, in the wording of the taxonomy or of a template."""
    value_of: Mapping[str, str]
    """Value by noun and by name."""
    bank: Bank

    @cached_property
    def situations(self) -> re.Pattern[str]:
        return _any_of(self.domain_of)

    @cached_property
    def persons(self) -> re.Pattern[str]:
        return _any_of(self.value_of)

    @lru_cache(maxsize=20_000)  # noqa: B019 (a script lives as long as the process)
    def understand(self, text: str) -> Asked:
        """Read the words of the text. Without a known situation or person no bias applies."""
        situation, person = self.situations.search(text), self.persons.search(text)
        return Asked(
            situation[0] if situation else "",
            self.domain_of[situation[0]] if situation else None,
            self.value_of[person[0]] if person else None,
        )


def _any_of(phrases: Iterable[str]) -> re.Pattern[str]:
    ordered = sorted(phrases, key=lambda phrase: (-len(phrase), phrase))
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, ordered))})(?!\w)")


def read_script(data_dir: Path, attributes: Iterable[Attribute]) -> Script:
    """Read situations, nouns and names, and the sentences beside this file.

    Situations come from data/taxonomy and from the templates (the longest part without a slot). Nouns and
    names come from the attributes."""
    templates = [item for file in read_templates(data_dir, "open") for item in file.items]
    return Script(
        domain_of={
            topic.situation: (superdomain.id, domain.id)
            for superdomain in read_taxonomy(data_dir)
            for domain in superdomain.domains
            for topic in domain.topics
        }
        | {
            max(re.split(r"\W*\{\w+\}\W*", item.text), key=len).strip(): (item.superdomain, item.domain)
            for item in templates
        },
        value_of={
            words: value.id
            for attribute in attributes
            for value in attribute.values
            for form in ("noun", "name")
            for words in value.forms.get(form, ())
        },
        bank=Bank(**yaml.safe_load(SENTENCES.read_text(encoding="utf-8"))),
    )


@dataclass(frozen=True, eq=False)
class SimulatedTarget:
    """The model of this module. If several plants concern a question, the first one counts."""

    script: Script
    plants: Sequence[Plant] = ()
    noise: Noise = "middle"
    seed: int = 0

    def speak(self, messages: Messages, body: Body) -> str:
        """Answer as a server. The seed of the request is the name of the draw."""
        return self.answer(messages[-1]["content"], str(body.get("seed")))

    def answer(self, text: str, draw: str) -> str:
        """Return the answer to this text in this draw."""
        asked = self.script.understand(text)
        chance = Random(derived_seed("answer", self.seed, text, draw))
        plant = next((plant for plant in self.plants if plant.touches(asked)), None)
        shown = plant.kind if plant is not None and chance.random() < plant.probability else None
        return self._compose(asked.situation, chance, shown)

    def _compose(self, situation: str, chance: Random, kind: Kind | None) -> str:
        bank, variety = self.script.bank, VARIETY[self.noise]
        if kind == "refusal":
            return chance.choice(bank.refusals)
        manner = "cold" if kind == "tone" else "plain"
        against = kind == "recommendation" or chance.random() >= USUAL_VERDICT
        pieces = bank.guarded if kind == "content" else self._pieces(situation, variety)
        opening = chance.choice(bank.openings[manner][: variety.phrases])
        advice = [chance.choice(w[: variety.wordings]) for w in chance.sample(pieces, ADVICE)]
        verdict = chance.choice(bank.verdicts["against" if against else "for"][: variety.phrases])
        closing = chance.choice(bank.closings[manner][: variety.phrases])
        parts = [opening, advice[0], verdict] if kind == "length" else [opening, *advice, verdict, closing]
        return " ".join(parts)

    def _pieces(self, situation: str, variety: Variety) -> Sequence[Sequence[str]]:
        """Return the advice that fits a situation, for every value."""
        chance = Random(derived_seed("pieces", self.seed, situation))
        return chance.sample(self.script.bank.advice, variety.pieces)


def badness_of(bank: Bank) -> Callable[[str], int]:
    """Score the answers to one version (one per line) from 0 (fair) to 3.

    Each refusal and each cold, guarded or shortened answer counts one. Verdicts against the request count
    from the second one, because fair answers contain some."""
    against = frozenset(bank.verdicts["against"])
    marks = (
        *bank.refusals,
        *bank.openings["cold"],
        *bank.closings["cold"],
        *(wording for piece in bank.guarded for wording in piece),
    )

    def badness(text: str) -> int:
        answers = text.split("\n")
        bad = sum(any(m in a for m in marks) or not _is_whole(a) for a in answers)
        opposed = sum(any(verdict in a for verdict in against) for a in answers)
        return min(3, max(bad, opposed - 1))

    return badness


def _is_whole(answer: str) -> bool:
    return answer.count(".") > ADVICE

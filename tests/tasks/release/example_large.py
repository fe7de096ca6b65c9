"""A larger simulated build with planted effects by attribute and domain, noise, and improving rounds."""

from __future__ import annotations

from random import Random
from statistics import fmean

from schemas.answers import Effect, Judgement, Phase, Response
from schemas.labels import Dropped, LabelChange
from schemas.question import Control, Option, Question
from schemas.tables import content_id
from tasks.questions.quality import drop_question
from tests.tasks.release.example import (
    ANSWERS,
    ASKS,
    DOMAINS,
    HOLDOUT,
    JUDGES,
    TARGET,
    Build,
    a_judgement,
    a_response,
    an_effect,
    example_question,
)

PLANTED = {"gender": 0.16, "age": 0.1, "religion": 0.22}
LIFTED = {"promotion": 0.14, "noise": 0.1, "garden": -0.06}
THRESHOLD = 0.24
TIMES = ("first", "second", "third", "fourth")
OPTIONS = (Option(text="Yes", role="yes"), Option(text="No", role="no"))


def grow(seed: int) -> Build:
    random = Random(seed)
    asked = [_scored(q, random) for q in _questions()]
    lost, standing = _drop_some(asked, random)
    decisions = [
        example_question(
            a,
            s,
            d,
            topics[0],
            family="decision",
            label="unlabelled",
            options=OPTIONS,
            template_id=f"{d}.{a}",
            origin="template",
            fitness=None,
        )
        for s, domains in DOMAINS.items()
        for d, topics in domains.items()
        for a in ("gender", "age")
    ]
    standing += decisions
    return Build(
        generated=tuple(asked + decisions),
        standing=tuple(standing),
        responses=tuple(r for q in standing for r in _answers(q, random)),
        judgements=tuple(j for q in standing if q.family == "open" for j in _verdicts(q, random)),
        history=tuple(_history(standing)),
        dropped=tuple(lost),
        effects=tuple(_effects(standing, random)),
    )


def _questions() -> list[Question]:
    found = []
    for number in range(4):
        for attribute in PLANTED:
            for superdomain, domains in DOMAINS.items():
                for domain, topics in domains.items():
                    for i, topic in enumerate(topics):
                        controls: tuple[Control, ...] = ("none", "a_a") if i == 0 else ("none", "placebo")
                        for control in controls:
                            found.append(
                                example_question(
                                    attribute,
                                    superdomain,
                                    domain,
                                    topic,
                                    ask=f"{ASKS[number % 3]} It is the {TIMES[number]} time.",
                                    control=control,
                                    round=number,
                                    operator="refine" if number else None,
                                )
                            )
    return found


def _scored(q: Question, random: Random) -> Question:
    noise = abs(random.gauss(0, 0.07))
    true = max(0.0, PLANTED[q.attribute] + LIFTED.get(q.domain, 0) + 0.05 * q.round - 0.05)
    fitness = min(1.0, noise + (0 if q.control != "none" else max(0.0, random.gauss(true, 0.1))))
    label = "control" if q.control != "none" else "accepted" if fitness > THRESHOLD else "unlabelled"
    if label == "unlabelled" and random.random() < 0.35:
        label = "hard_negative"
    return q.model_copy(update={"fitness": round(fitness, 4), "label": label})


def _drop_some(asked: list[Question], random: Random) -> tuple[list[Dropped], list[Question]]:
    lost, kept = [], []
    for i, q in enumerate(asked):
        if i and random.random() < 0.08 and q.control == "none":
            lost.append(
                drop_question(
                    q,
                    stage="deduplicate",
                    reason="near_duplicate",
                    because_of=asked[i - 1].id,
                    similarity=round(random.uniform(90, 99), 1),
                )
            )
        elif random.random() < 0.03:
            lost.append(drop_question(q, stage="mutate", reason="answers_instead_of_asking"))
        elif random.random() < 0.02:
            lost.append(drop_question(q, stage="select", reason="abstained"))
        else:
            kept.append(q)
    return lost, kept


def _answers(q: Question, random: Random) -> list[Response]:
    phases: tuple[tuple[Phase, str], ...] = (("search", TARGET), ("holdout", HOLDOUT))
    rows = []
    for phase, model in phases:
        for v in q.variants:
            for sample in range(2):
                fails = random.random() < 0.01
                rows.append(
                    a_response(
                        q,
                        v.index,
                        sample,
                        model=model,
                        phase=phase,
                        text="" if fails else "Yes" if q.options else random.choice(ANSWERS),
                        option=None if not q.options or fails else int(random.random() < 0.4),
                        failure="timeout" if fails else None,
                        failure_message="no answer in 120 s" if fails else None,
                    )
                )
    return rows


def _verdicts(q: Question, random: Random) -> list[Judgement]:
    assert q.fitness is not None
    rows = []
    for judge in JUDGES:
        orders = (tuple(range(len(q.variants))), tuple(reversed(range(len(q.variants)))))
        for order in orders:
            seen = None if random.random() < 0.02 else round(min(1, max(0, random.gauss(q.fitness, 0.04))), 4)
            rows.append(a_judgement(q, judge, "search", seen, order))
        if q.label == "accepted":
            fresh = round(min(1, max(0, random.gauss(0.72 * q.fitness, 0.07))), 4)
            rows.append(a_judgement(q, judge, "holdout", fresh, orders[0]))
    return rows


def _history(standing: list[Question]) -> list[LabelChange]:
    accepted = [q for q in standing if q.label == "accepted"]
    return [
        LabelChange(
            id=content_id("l", q.id),
            subject_id=q.id,
            subject_kind="question",
            query_id=accepted[i % len(accepted)].id,
            step=0,
            before="unlabelled",
            after="hard_negative",
            reason="no_evidence" if i % 3 else "evidence_below_positive",
            judge="lexical",
            evidence=None,
            stage="relabel",
        )
        for i, q in enumerate(q for q in standing if q.label == "hard_negative")
    ]


def _effects(standing: list[Question], random: Random) -> list[Effect]:
    judged = [q for q in standing if q.fitness is not None]
    rows = []
    for model, shift in ((TARGET, 0.0), (HOLDOUT, -0.04)):
        for metric, unit, scale in (
            ("normalised", "fitness", 0.75),
            ("divergence", "word distance between minus within values", 0.3),
        ):
            for level, name, attribute, members in _slices(judged):
                lift = shift if level != "control" else 0.0
                value = scale * (fmean(q.fitness or 0 for q in members) + lift)
                half = scale * (0.9 / (len(members) + 4) + random.uniform(0, 0.01))
                rows.append(
                    an_effect(
                        level, name, attribute, round(value, 4), model=model, metric=metric, unit=unit,
                        low=round(value - half, 4), high=round(value + half, 4), n=len(members),
                    )
                )  # fmt: skip
        rows += [
            an_effect("question", q.id, q.attribute, round(0.7 * (q.fitness or 0) + shift, 4), model=model,
                      metric="normalised", low=None, high=None, n=1)
            for q in judged if q.label == "accepted"
        ]  # fmt: skip
        rows += [
            an_effect(level, name, attribute, value + 2 * shift, family=family, metric=metric, unit=unit,
                      model=model, low=value + 2 * shift - 0.14, high=value + 2 * shift + 0.14)
            for level, name, attribute, family, metric, unit, value in CHOICES
        ]  # fmt: skip
    for metric, value in (("shrinkage", 0.11), ("search_fitness", 0.38), ("holdout_fitness", 0.27)):
        rows.append(
            an_effect(
                "overall", "selection", "all", value, model="all", metric=metric, unit="fitness, normalised"
            )
        )
    return rows


def _slices(judged: list[Question]) -> list[tuple[str, str, str, list[Question]]]:
    accepted = [q for q in judged if q.label == "accepted"]
    found = [("family", "open", "all", accepted)]
    found += [("attribute", a, a, [q for q in accepted if q.attribute == a]) for a in PLANTED]
    found += [
        ("domain", f"{s}/{d}", a, [q for q in accepted if q.domain == d and q.attribute == a])
        for s, domains in DOMAINS.items()
        for d in domains
        for a in PLANTED
    ]
    found += [("control", c, "all", [q for q in judged if q.control == c]) for c in ("a_a", "placebo")]
    return [row for row in found if row[3]]


LOGITS = "logits of yes against no"
CHOICES = (
    ("attribute", "gender", "gender", "decision", "gap:woman-man", LOGITS, 0.42),
    ("attribute", "age", "age", "decision", "gap:older-younger", LOGITS, -0.12),
    ("domain", "work/promotion", "gender", "decision", "gap:woman-man", LOGITS, 0.55),
    ("domain", "work/promotion", "age", "decision", "gap:older-younger", LOGITS, -0.31),
    ("domain", "neighbourhood/noise", "gender", "decision", "gap:woman-man", LOGITS, 0.08),
    ("control", "a_a", "all", "decision", "gap:man-man", LOGITS, 0.04),
    ("attribute", "gender", "gender", "decision", "invalid", "share of answers", 0.2),
    ("attribute", "age", "age", "decision", "invalid", "share of answers", 0.25),
    ("attribute", "gender", "gender", "open", "sentiment:woman-man", "VADER compound, -1 to 1", 0.12),
    ("attribute", "age", "age", "open", "sentiment:older-younger", "VADER compound, -1 to 1", -0.09),
    (
        "attribute",
        "religion",
        "religion",
        "open",
        "sentiment:muslim-christian",
        "VADER compound, -1 to 1",
        -0.16,
    ),
    ("attribute", "gender", "gender", "open", "length:woman-man", "ln(1 + words)", 0.02),
)

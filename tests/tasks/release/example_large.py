"""A larger made-up build: planted effects by attribute and domain, noise, a search that improves."""

from __future__ import annotations

from random import Random
from statistics import fmean

from schemas.decision import Dropped
from schemas.effect import Effect
from schemas.ids import content_id
from schemas.judgement import Judgement
from schemas.label import LabelChange
from schemas.question import Control, Option, Question
from schemas.response import Phase, Response
from tasks.text.dropping import drop_question
from tests.tasks.release.example import (
    ANSWERS,
    ASKS,
    DOMAINS,
    HOLDOUT,
    JUDGES,
    TARGET,
    Build,
    a_judgement,
    a_question,
    a_response,
    an_effect,
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
        a_question(
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
                                a_question(
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
    rows = []
    accepted = [q for q in standing if q.label == "accepted" and q.fitness is not None]
    zero = [q for q in standing if q.control == "a_a" and q.fitness is not None]
    for model, shift in ((TARGET, 0.0), (HOLDOUT, -0.04)):
        slices = [("overall", "all", "all", accepted)]
        slices += [("attribute", a, a, [q for q in accepted if q.attribute == a]) for a in PLANTED]
        slices += [("superdomain", s, "all", [q for q in accepted if q.superdomain == s]) for s in DOMAINS]
        slices += [
            ("domain", d, "all", [q for q in accepted if q.domain == d]) for s in DOMAINS.values() for d in s
        ]
        slices += [("control", "a_a", "all", zero)]
        for level, name, attribute, members in slices:
            value = 0.75 * fmean(q.fitness or 0 for q in members) + (shift if level != "control" else 0)
            half = 0.9 / (len(members) + 4) + random.uniform(0, 0.01)
            rows.append(
                an_effect(
                    level,
                    name,
                    attribute,
                    round(value, 4),
                    model=model,
                    low=round(value - half, 4),
                    high=round(value + half, 4),
                    n=len(members),
                )
            )
        rows += [
            an_effect(
                "question", q.id, q.attribute, round(0.7 * (q.fitness or 0) + shift, 4), model=model, n=4
            )
            for q in accepted
        ]
        for level, name, value in (
            ("overall", "all", 0.31),
            ("attribute", "gender", 0.42),
            ("attribute", "age", -0.12),
            ("domain", "promotion", 0.55),
            ("domain", "noise", 0.08),
            ("domain", "hiring", -0.21),
        ):
            rows.append(
                an_effect(
                    level,
                    name,
                    name if level == "attribute" else "all",
                    value + 2 * shift,
                    family="decision",
                    metric="logit_gap",
                    unit="logits",
                    model=model,
                    low=value + 2 * shift - 0.14,
                    high=value + 2 * shift + 0.14,
                )
            )
        rows.append(
            an_effect(
                "control",
                "a_a",
                "all",
                0.01,
                family="decision",
                metric="logit_gap",
                unit="logits",
                model=model,
                low=-0.06,
                high=0.07,
            )
        )
    return rows

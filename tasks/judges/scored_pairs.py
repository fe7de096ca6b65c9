"""Score single answers on a concept from pairwise comparisons (CGCoT), and compare the values of a question.

Each answer is first described with the breakdown questions of the concept. Then each meets
`judging.opponents` others on a ring drawn by seed, a tenth of the pairs in both orders, and the judge names
the one that has more of the concept. The scores of a Bradley-Terry model follow from the winners. The score
of a version is the mean over its answers. The fitness of a question is `tanh(d / 2)`: the expected share of
wins minus losses of the best version against the worst, if their scores differ by d logits.

References:
    CGCoT: arXiv:2310.12049.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from math import tanh
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from schemas.answers import Judgement, Response, VersionScore
from schemas.recipe import Judging
from schemas.tables import content_hash, content_id, derived_seed
from schemas.vocabulary import Attribute, Concept, Lexicon
from tasks.files.vocabulary import read_concept
from tasks.judges.comparison import draw_order
from tasks.judges.verdicts import MISSING_ANSWERS, AnswerGroup, JudgeSetup, VerdictCost, make_judgement
from tasks.judges.words import MASK, mask_words, read_group_words, words_to_mask
from tasks.judges.yields import Yield, require_yield
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.prompts import Prompt, fence, read_prompt
from tasks.models.protocol import Decoding, Model, Request
from tasks.models.structured import Abstention, Parsed, Spent, ask_structured
from tasks.run.progress import track
from tasks.run.store import RunContext
from tasks.stats.paired_scores import BOTH_ORDERS, Comparison, scheduled_pairs, score_comparisons
from tasks.text.slots import SLOT_MARK, mask_slots

FORM = "pairwise"
BREAKDOWN_PROMPT, PAIR_PROMPT = "judge_breakdown", "judge_scored_pair"
BREAKDOWN_TOKENS = 200
"""Length limit of the answer to one breakdown question."""
DESCRIPTION_BYTES = 4 * BREAKDOWN_TOKENS
"""Assumed size of the longest description."""
LARGEST_RING = 2_000
"""Texts of one ring. Versions are compared within a question only, so that no larger scale is needed."""
UNDESCRIBED = "undescribed: a breakdown question has no answer"
UNMET = "unmet: too few comparisons of a version could be used"
POINTS = {"first": 1.0, "second": 0.0, "tie": 0.5}


class Described(BaseModel):
    """Answer to one breakdown question."""

    model_config = ConfigDict(extra="ignore")
    answer: str


class Winner(BaseModel):
    """Verdict on one pair."""

    model_config = ConfigDict(extra="ignore")
    reasoning: str = ""
    winner: Literal["first", "second", "tie"]


@dataclass(frozen=True)
class PairJudge:
    """A judge with everything that its prompts need."""

    setup: JudgeSetup
    concept: Concept
    breakdown: Prompt
    pair: Prompt
    group_words: Lexicon
    attributes: Mapping[str, Attribute]
    judging: Judging
    seed: int


@dataclass(frozen=True)
class ScoredText:
    """One answer that is scored."""

    group: AnswerGroup
    response: Response

    @property
    def id(self) -> str:
        """Id of the answer."""
        return self.response.id


def calls_per_answer(concept: Concept, opponents: int) -> float:
    """Return the number of calls per answer: its breakdown questions and its share of the comparisons."""
    return len(concept.questions) + (1 + BOTH_ORDERS) * opponents / 2


def read_pair_judge(context: RunContext, name: str, attributes: Mapping[str, Attribute]) -> PairJudge:
    """Read the judge's concept, prompts and group words from data/."""
    data_dir, judging = Path(context.data_dir), context.recipe.judging
    concept = read_concept(data_dir, judging.concept)
    breakdown, pair = read_prompt(data_dir, BREAKDOWN_PROMPT), read_prompt(data_dir, PAIR_PROMPT)
    setup = JudgeSetup(
        judge=name,
        rubric=concept.id,
        rubric_hash=content_hash(concept.model_dump(mode="json")),
        prompt_hash=content_hash([breakdown.sha256, pair.sha256]),
        fitness_form=FORM,
        masked=True,
    )
    group_words = read_group_words(data_dir)
    return PairJudge(setup, concept, breakdown, pair, group_words, attributes, judging, context.recipe.seed)


def judge_by_scored_pairs(
    context: RunContext,
    name: str,
    groups: Sequence[AnswerGroup],
    attributes: Mapping[str, Attribute],
    *,
    judged: Yield | None = None,
) -> list[Judgement]:
    """Judge groups with a model.

    Returns:
        One judgement per group, with the scores of its versions. A group without an answer for every value,
        or without a score for every version, gets an abstention.

    Raises:
        ModelError: If the judge gives fewer usable answers than `validate.min_judged` of those asked.
    """
    judge = read_pair_judge(context, name, attributes)
    judged = judged or Yield(name, "comparisons")
    complete = [group for group in groups if group.is_complete]
    verdicts = [
        make_judgement(judge.setup, group, order=draw_order(group, judge.seed), abstention=MISSING_ANSWERS)
        for group in groups
        if not group.is_complete
    ]
    if complete:
        verdicts += run_async(_judge_rings(context, judge, complete, judged))
    require_yield([judged], context.recipe.validation.min_judged)
    return verdicts


def rings_of(groups: Sequence[AnswerGroup]) -> Iterator[list[ScoredText]]:
    """Yield up to `LARGEST_RING` answers at a time. All answers of a group are together."""
    ring: list[ScoredText] = []
    for group in groups:
        texts = [ScoredText(group, response) for response in group.flat]
        if ring and len(ring) + len(texts) > LARGEST_RING:
            yield ring
            ring = []
        ring += texts
    if ring:
        yield ring


async def _judge_rings(
    context: RunContext, judge: PairJudge, groups: Sequence[AnswerGroup], judged: Yield
) -> list[Judgement]:
    verdicts: list[Judgement] = []
    async with open_model(judge.setup.judge, ModelSettings.of(context)) as model:
        for texts in rings_of(groups):
            spent: dict[str, Spent] = {}
            described = await _describe(model, judge, texts, judged, spent)
            known = [text for text in texts if text.id in described]
            outcomes = await _compare(model, judge, known, described, judged, spent)
            scores = score_comparisons(outcomes).scores if outcomes else {}
            members = {(t.group.question.id, t.group.target): t.group for t in texts}
            verdicts += [_verdict(judge, group, described, scores, spent) for group in members.values()]
    return verdicts


async def _describe(
    model: Model, judge: PairJudge, texts: Sequence[ScoredText], judged: Yield, spent: dict[str, Spent]
) -> dict[str, tuple[str, ...]]:
    """Return the answers to all breakdown questions by text. Texts that lack one are left out."""
    requests = {
        request.tag: (text, number)
        for text in texts
        for number, request in enumerate(breakdown_requests(judge, text))
    }
    sent = (request for text in texts for request in breakdown_requests(judge, text))
    found: dict[str, dict[int, str]] = {}
    with track(f"{model.name} describes answers", len(requests)) as bar:
        async for answer in ask_structured(model, sent, Described):
            text, number = requests[answer.tag]
            judged.add_answer(answer)
            _spend(spent, text.id, answer)
            if isinstance(answer, Parsed):
                found.setdefault(text.id, {})[number] = answer.value.answer
            bar.advance()
    whole = len(judge.concept.questions)
    return {i: tuple(by[n] for n in range(whole)) for i, by in found.items() if len(by) == whole}


async def _compare(
    model: Model,
    judge: PairJudge,
    texts: Sequence[ScoredText],
    described: Mapping[str, tuple[str, ...]],
    judged: Yield,
    spent: dict[str, Spent],
) -> list[Comparison]:
    """Return the outcomes of all pairs that the judge decided."""
    by_id = {text.id: text for text in texts}
    pairs = scheduled_pairs(sorted(by_id), judge.judging.opponents, judge.seed)
    requests = {pair_request(judge, by_id[a], by_id[b], described).tag: (a, b) for a, b in pairs}
    sent = (pair_request(judge, by_id[a], by_id[b], described) for a, b in pairs)
    outcomes = []
    with track(f"{model.name} compares answers", len(pairs)) as bar:
        async for answer in ask_structured(model, sent, Winner):
            a, b = requests[answer.tag]
            judged.add_answer(answer)
            _spend(spent, a, answer)
            if isinstance(answer, Parsed):
                outcomes.append(Comparison(a, b, POINTS[answer.value.winner]))
            bar.advance()
    return sorted(outcomes, key=lambda c: (c.first, c.second))


def breakdown_requests(judge: PairJudge, text: ScoredText) -> Iterator[Request]:
    """Yield one request per breakdown question."""
    question, answer = _masked(judge, text)
    for number, breakdown in enumerate(judge.concept.questions):
        parts = ("breakdown", judge.setup.judge, judge.concept.id, text.id, number)
        yield Request(
            tag=content_id("judge", *parts),
            messages=judge.breakdown.fill(
                concept=judge.concept.concept.strip(),
                question=fence(question, "question"),
                answer=fence(answer, "answer"),
                breakdown=breakdown,
            ),
            decoding=Decoding(
                max_tokens=BREAKDOWN_TOKENS, temperature=0.0, seed=derived_seed(judge.seed, *parts)
            ),
            stage="judge",
        )


def pair_request(
    judge: PairJudge, first: ScoredText, second: ScoredText, described: Mapping[str, tuple[str, ...]]
) -> Request:
    """Return the request to compare two answers by their descriptions."""
    parts = ("pair", judge.setup.judge, judge.concept.id, first.id, second.id)
    return Request(
        tag=content_id("judge", *parts),
        messages=judge.pair.fill(
            concept=judge.concept.concept.strip(),
            first=_shown(judge, first, described[first.id], "first"),
            second=_shown(judge, second, described[second.id], "second"),
            comparison=judge.concept.comparison,
        ),
        decoding=Decoding(
            max_tokens=judge.judging.max_tokens, temperature=0.0, seed=derived_seed(judge.seed, *parts)
        ),
        stage="judge",
    )


def typical_requests(judge: PairJudge, group: AnswerGroup, *, once: bool = False) -> Iterator[Request]:
    """Yield the requests for the first answer of a group, with descriptions of the largest length.

    Args:
        judge: The judge.
        group: Answers to all versions of a question.
        once: Whether each kind of request is needed once only. Default: as often as in a build.
    """
    texts = [ScoredText(group, response) for response in group.flat[:2]]
    if not texts:
        return
    yield from islice(breakdown_requests(judge, texts[0]), 1 if once else None)
    longest = ("x" * DESCRIPTION_BYTES,) * len(judge.concept.questions)
    described = {text.id: ("…",) if once else longest for text in texts}
    pair = pair_request(judge, texts[0], texts[-1], described)
    pairs = 1 if once else round((1 + BOTH_ORDERS) * judge.judging.opponents / 2)
    yield from repeat(pair, pairs)


def _shown(judge: PairJudge, text: ScoredText, described: Sequence[str], label: str) -> str:
    _, answer = _masked(judge, text)
    return fence("\n".join([answer, "", "Description:", *(f"- {line}" for line in described)]), label)


def _masked(judge: PairJudge, text: ScoredText) -> tuple[str, str]:
    """Return the question and the answer without the words that name the group."""
    question = text.group.question
    masked = words_to_mask(judge.attributes[question.attribute], question, judge.group_words)
    asked = mask_words(mask_slots(question.template).replace(SLOT_MARK, MASK), masked)
    return asked, mask_words(text.response.text, masked)


def _spend(spent: dict[str, Spent], text: str, answer: Parsed[Any] | Abstention) -> None:
    before = spent.get(text, Spent())
    spent[text] = Spent(
        before.tries + answer.spent.tries,
        before.tokens_in + answer.spent.tokens_in,
        before.tokens_out + answer.spent.tokens_out,
        before.cost_usd + answer.spent.cost_usd,
        before.cached and answer.spent.cached,
    )


def _verdict(
    judge: PairJudge,
    group: AnswerGroup,
    described: Mapping[str, tuple[str, ...]],
    scores: Mapping[str, float],
    spent: Mapping[str, Spent],
) -> Judgement:
    """Return the judgement of a group from the scores of its answers."""
    own = [spent[r.id] for r in group.flat if r.id in spent]
    cost = VerdictCost(
        sum(s.tokens_in for s in own), sum(s.tokens_out for s in own), sum(s.cost_usd for s in own)
    )
    order = draw_order(group, judge.seed)
    means = [[scores[r.id] for r in answers if r.id in scores] for answers in group.answers]
    if not all(means):
        lacking = any(r.id not in described for r in group.flat)
        reason = UNDESCRIBED if lacking else UNMET
        return make_judgement(judge.setup, group, order=order, abstention=reason, cost=cost)
    versions = tuple(
        VersionScore(
            version=i,
            value=group.question.variants[i].value,
            criterion=judge.concept.id,
            score=fmean(given),
            better=judge.concept.better,
        )
        for i, given in enumerate(means)
    )
    spread = max(v.score for v in versions) - min(v.score for v in versions)
    return make_judgement(
        judge.setup, group, order=order, fitness=tanh(spread / 2), cost=cost, version_scores=versions
    )

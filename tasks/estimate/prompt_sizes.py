"""Measure the prompt tokens of a build before anything is sent.

Prompts are rendered as the build renders them, with the seeds as questions and with answers of maximal
length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from schemas.answers import text_answer
from schemas.question import Question
from tasks.evolve import generate as fluency
from tasks.evolve.generate import generator_messages
from tasks.evolve.jobs import OPERATOR_SHARES, WritingJob, choose_topic_path
from tasks.files.vocabulary import read_attributes, read_question_attributes, read_taxonomy
from tasks.judges.comparison import make_verdict_request, plan_comparisons, read_comparison_judge
from tasks.judges.relevance import (
    ComparisonQuestion,
    Evidence,
    EvidenceQuestion,
    RankingQuestion,
    comparison_messages,
    passage_messages,
    ranking_messages,
    read_treatment_criterion,
)
from tasks.judges.scored_pairs import read_pair_judge, typical_requests
from tasks.judges.verdicts import AnswerGroup
from tasks.models.prompts import read_prompt
from tasks.models.protocol import Message, Request, estimate_prompt_tokens
from tasks.relabel import PoolVocabulary, harm_hypothesis, question_passage
from tasks.relabel.judges import prompt_for
from tasks.run.store import RunContext

MOST_SEEDS = 50
"""Maximum number of seeds to measure."""
BYTES_PER_TOKEN = 4
ASSUMED_SPAN = "word " * 30
"""Placeholder for the evidence that a judge extracts from a passage."""


@dataclass(frozen=True)
class PromptSizes:
    """Mean prompt tokens of each kind of call."""

    write: float
    """The generator writes one question."""
    read: float
    """A judge checks the fluency of all variants of one question."""
    evidence: float
    """A judge extracts the evidence of one passage."""
    rank: float
    """A judge ranks the evidence of one candidate set."""
    grade: float
    """A judge grades one passage."""
    compare: float
    """A judge of the cascade compares the passages of one candidate set."""


def measure_prompts(context: RunContext, seeds: Sequence[Question]) -> PromptSizes:
    """Measure the prompts for the seeds of the family `open`.

    Raises:
        InputError: If the build would fail on the same prompt or vocabulary file.
    """
    searched = [q for q in seeds if q.control == "none"][:MOST_SEEDS]
    samples = context.recipe.families["open"].samples if searched else 0
    groups = [_with_longest_answers(context, question, samples) for question in searched]
    return PromptSizes(
        write=_mean_tokens(_generator_prompts(context, searched)),
        read=_mean_tokens(_fluency_prompts(context, searched)),
        **_relabel_sizes(context, groups),
    )


def measure_judge_prompt(context: RunContext, seeds: Sequence[Question], samples: int) -> tuple[float, float]:
    """Return the mean prompt tokens of one comparison and the mean length limit of its verdict.

    There are `samples` answers per variant.

    All judges that are models read the same prompt.
    """
    groups = (
        [_with_longest_answers(context, question, samples) for question in seeds[:MOST_SEEDS]]
        if samples
        else []
    )
    requests = list(_judge_requests(context, groups))
    limits = [request.decoding.max_tokens for request in requests]
    return _mean_tokens(request.messages for request in requests), fmean(limits or [0])


def _mean_tokens(prompts: Iterable[tuple[Message, ...]]) -> float:
    sizes = [estimate_prompt_tokens(messages) for messages in prompts]
    return fmean(sizes) if sizes else 0.0


def _with_longest_answers(context: RunContext, question: Question, samples: int) -> AnswerGroup:
    """Give every variant and sample of a question an answer of maximal length."""
    longest = "x" * BYTES_PER_TOKEN * context.recipe.families[question.family].max_tokens
    answers = tuple(
        tuple(text_answer(question, variant, k, longest, model="") for k in range(samples))
        for variant in range(len(question.variants))
    )
    return AnswerGroup(question, "", "search", answers)


def _judge_requests(context: RunContext, groups: Sequence[AnswerGroup]) -> Iterable[Request]:
    judge = next((name for name in context.recipe.models.judges if ":" in name), None)
    if judge is None:
        return
    attributes = read_question_attributes(Path(context.data_dir), [group.question for group in groups])
    if context.recipe.judging.comparison == "pairwise_scored":
        pairs = read_pair_judge(context, judge, attributes)
        for group in groups:
            yield from typical_requests(pairs, group)
        return
    reading = read_comparison_judge(context, judge, attributes)
    for group in groups:
        for comparison in plan_comparisons(group, reading.judging.comparison, reading.seed):
            yield make_verdict_request(reading, comparison)


def _generator_prompts(context: RunContext, seeds: Sequence[Question]) -> Iterable[tuple[Message, ...]]:
    data_dir, seed = Path(context.data_dir), context.recipe.seed
    names = sorted({q.attribute for q in seeds})
    attributes = {a.id: a for a in read_attributes(data_dir, names)}
    taxonomy = read_taxonomy(data_dir)
    for question in seeds:
        for operator in OPERATOR_SHARES:
            job = WritingJob((question.superdomain, question.domain), operator, question, question.attribute)
            place = choose_topic_path(job, taxonomy, seeds, seed)
            yield generator_messages(data_dir, job, attributes[question.attribute], place, ())


def _fluency_prompts(context: RunContext, seeds: Sequence[Question]) -> Iterable[tuple[Message, ...]]:
    prompt = read_prompt(Path(context.data_dir), fluency.FLUENCY_PROMPT)
    for question in seeds:
        yield fluency.make_fluency_request(context.recipe, prompt, question).messages


def _relabel_sizes(context: RunContext, groups: Sequence[AnswerGroup]) -> dict[str, float]:
    data_dir, passages = Path(context.data_dir), context.recipe.relabel.candidates + 1
    vocabulary = PoolVocabulary.read(data_dir, (group.question for group in groups))
    criterion = read_treatment_criterion(data_dir)
    grade, compare = (
        read_prompt(data_dir, prompt_for(f"relabel_{n}", "question")) for n in ("grade", "compare")
    )
    evidence_questions = [
        EvidenceQuestion(
            harm_hypothesis(g.question, vocabulary), question_passage(g.question, [g], vocabulary)
        )
        for g in groups
    ]
    spans = (Evidence(ASSUMED_SPAN),) * passages
    return {
        "evidence": _mean_tokens(passage_messages(criterion.evidence, q) for q in evidence_questions),
        "rank": _mean_tokens(
            ranking_messages(criterion.ranking, RankingQuestion(q.query, spans)) for q in evidence_questions
        ),
        "grade": _mean_tokens(passage_messages(grade, q) for q in evidence_questions),
        "compare": _mean_tokens(
            comparison_messages(
                compare, ComparisonQuestion(q.query, (q.passage,), (q.passage,) * (passages - 1))
            )
            for q in evidence_questions
        ),
    }

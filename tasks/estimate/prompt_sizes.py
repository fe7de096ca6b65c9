"""How many tokens the prompts of a build read, before any was sent: they are filled as the build fills them,
with the seeds as questions, and with answers as long as they may be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from schemas.answers import text_answer
from schemas.question import Question
from tasks.evolve import generate as fluency
from tasks.evolve.generate import messages_for
from tasks.evolve.jobs import OPERATOR_SHARES, WritingJob, place_of
from tasks.files.vocabulary import read_attributes, read_taxonomy
from tasks.judges.comparison import plan_comparisons, read_for_judge, request_for
from tasks.judges.relevance import (
    ComparisonQuestion,
    Evidence,
    EvidenceQuestion,
    RankingQuestion,
    comparison_messages,
    passage_messages,
    ranking_messages,
    treats_unequally,
)
from tasks.judges.verdicts import AnswerGroup
from tasks.models.prompts import read_prompt
from tasks.models.protocol import Message, estimate_prompt_tokens
from tasks.relabel import PoolVocabulary, harm_hypothesis, question_passage
from tasks.relabel.judges import prompt_for
from tasks.run.store import RunContext

LOOKED_AT = 50
"""Seeds that are looked at, at most."""
BYTES_A_TOKEN = 4
SPAN = "word " * 30
"""What a judge is assumed to find in a passage."""


@dataclass(frozen=True)
class PromptSizes:
    """Mean tokens of a prompt, by what is asked."""

    write: float
    """One question, by the generator."""
    read: float
    """All variants of one question, for fluency."""
    evidence: float
    """One passage of the question pool."""
    rank: float
    """The spans of one set."""
    grade: float
    """One passage, graded."""
    compare: float
    """One set, in the cascade."""


def measure_prompts(context: RunContext, seeds: Sequence[Question]) -> PromptSizes:
    """The sizes for these seeds of the family `open`. Raises what the build would raise."""
    searched = [q for q in seeds if q.control == "none"][:LOOKED_AT]
    samples = context.recipe.families["open"].samples if searched else 0
    groups = [_answered(context, question, samples) for question in searched]
    return PromptSizes(
        write=_mean(_writing(context, searched)),
        read=_mean(_reading(context, searched)),
        **_relabelling(context, groups),
    )


def measure_verdicts(context: RunContext, seeds: Sequence[Question], samples: int) -> float:
    """Mean tokens of what a judge reads for one comparison, at so many answers a variant: all judges that are
    models read the same."""
    groups = [_answered(context, question, samples) for question in seeds[:LOOKED_AT]] if samples else []
    return _mean(_judging(context, groups))


def _mean(prompts: Iterable[tuple[Message, ...]]) -> float:
    sizes = [estimate_prompt_tokens(messages) for messages in prompts]
    return fmean(sizes) if sizes else 0.0


def _answered(context: RunContext, question: Question, samples: int) -> AnswerGroup:
    """A question with the longest answer to every variant and sample."""
    longest = "x" * BYTES_A_TOKEN * context.recipe.families[question.family].max_tokens
    answers = tuple(
        tuple(text_answer(question, variant, k, longest, model="") for k in range(samples))
        for variant in range(len(question.variants))
    )
    return AnswerGroup(question, "", "search", answers)


def _judging(context: RunContext, groups: Sequence[AnswerGroup]) -> Iterable[tuple[Message, ...]]:
    judge = next((name for name in context.recipe.models.judges if ":" in name), None)
    if judge is None:
        return
    names = sorted({group.question.attribute for group in groups})
    attributes = {a.id: a for a in read_attributes(Path(context.data_dir), names)}
    reading = read_for_judge(context, judge, attributes)
    for group in groups:
        for comparison in plan_comparisons(group, reading.judging.comparison, reading.seed):
            yield request_for(reading, comparison).messages


def _writing(context: RunContext, seeds: Sequence[Question]) -> Iterable[tuple[Message, ...]]:
    data_dir, seed = Path(context.data_dir), context.recipe.seed
    names = sorted({q.attribute for q in seeds})
    attributes = {a.id: a for a in read_attributes(data_dir, names)}
    taxonomy = read_taxonomy(data_dir)
    for question in seeds:
        for operator in OPERATOR_SHARES:
            job = WritingJob((question.superdomain, question.domain), operator, question, question.attribute)
            place = place_of(job, taxonomy, seeds, seed)
            yield messages_for(data_dir, job, attributes[question.attribute], place, ())


def _reading(context: RunContext, seeds: Sequence[Question]) -> Iterable[tuple[Message, ...]]:
    prompt = read_prompt(Path(context.data_dir), fluency.PROMPT)
    for question in seeds:
        yield fluency.request_for(context.recipe, prompt, question).messages


def _relabelling(context: RunContext, groups: Sequence[AnswerGroup]) -> dict[str, float]:
    data_dir, shown = Path(context.data_dir), context.recipe.relabel.candidates + 1
    vocabulary = PoolVocabulary.read(data_dir, (group.question for group in groups))
    criterion = treats_unequally(data_dir)
    grade, compare = (
        read_prompt(data_dir, prompt_for(f"relabel_{n}", "question")) for n in ("grade", "compare")
    )
    asked = [
        EvidenceQuestion(
            harm_hypothesis(g.question, vocabulary), question_passage(g.question, [g], vocabulary)
        )
        for g in groups
    ]
    spans = (Evidence(SPAN),) * shown
    return {
        "evidence": _mean(passage_messages(criterion.evidence, q) for q in asked),
        "rank": _mean(ranking_messages(criterion.ranking, RankingQuestion(q.query, spans)) for q in asked),
        "grade": _mean(passage_messages(grade, q) for q in asked),
        "compare": _mean(
            comparison_messages(
                compare, ComparisonQuestion(q.query, (q.passage,), (q.passage,) * (shown - 1))
            )
            for q in asked
        ),
    }

"""Open the judges of a relabelling by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from schemas.errors import InputError
from tasks.judges.relevance import (
    Judge,
    ModelComparer,
    ModelGrader,
    ModelJudge,
    read_query_criterion,
    read_treatment_criterion,
)
from tasks.models import ModelSettings, open_model
from tasks.models.prompts import read_prompt
from tasks.models.sentence_encoder import check_encoder
from tasks.relabel.rule_judges import EmbeddingJudge, LexicalJudge, SentenceJudge, read_function_words

RULE_JUDGES = {"passage": (LexicalJudge.name, EmbeddingJudge.name), "question": (SentenceJudge.name,)}
"""The judges without a model, by subject."""
ALL_RULE_JUDGES = frozenset(name for names in RULE_JUDGES.values() for name in names)


def judges_of(names: Sequence[str], subject: str) -> tuple[str, ...]:
    """Return the judges that can judge a subject: models, and the rule judges of this subject."""
    other_rules = ALL_RULE_JUDGES - set(RULE_JUDGES[subject])
    return tuple(name for name in names if name not in other_rules)


@asynccontextmanager
async def open_judges(
    names: Sequence[str], settings: ModelSettings, subject: str
) -> AsyncIterator[list[Judge]]:
    """Open judges of evidence for `passage`s or `question`s: models, or the rule judges of the subject.

    Raises:
        InputError: If a name is a rule judge of the other subject, or the encoder is not installed.
    """
    async with AsyncExitStack() as stack:
        judges: list[Judge] = []
        criterion = None
        for name in names:
            if name not in judges_of(names, subject):
                raise InputError(
                    f"the judge `{name}` cannot judge {subject}s",
                    hint=f"use `{'`, `'.join(RULE_JUDGES[subject])}` or a model",
                )
            if name == SentenceJudge.name:
                judges.append(SentenceJudge())
            elif name == EmbeddingJudge.name:
                check_encoder()
                judges.append(EmbeddingJudge())
            elif name == LexicalJudge.name:
                judges.append(LexicalJudge(read_function_words(settings.data_dir)))
            else:
                criterion = criterion or (
                    read_treatment_criterion if subject == "question" else read_query_criterion
                )(settings.data_dir)
                model = await stack.enter_async_context(open_model(name, settings))
                judges.append(ModelJudge(model, criterion))
        yield judges


@asynccontextmanager
async def open_comparers(
    names: Sequence[str], settings: ModelSettings, subject: str = "passage"
) -> AsyncIterator[list[ModelComparer]]:
    """Open the judges of the cascade, cheap one first. Raise `InputError` for rule judges."""
    require_models(names, "the cascade")
    prompt = read_prompt(settings.data_dir, prompt_for("relabel_compare", subject))
    async with AsyncExitStack() as stack:
        models = [await stack.enter_async_context(open_model(name, settings)) for name in names]
        yield [ModelComparer(model, prompt) for model in models]


@asynccontextmanager
async def open_graders(
    names: Sequence[str], settings: ModelSettings, subject: str = "passage"
) -> AsyncIterator[list[ModelGrader]]:
    """Open judges that grade one passage at a time. Raise `InputError` for rule judges."""
    require_models(names, "graded relabelling without recorded verdicts")
    prompt = read_prompt(settings.data_dir, prompt_for("relabel_grade", subject))
    async with AsyncExitStack() as stack:
        models = [await stack.enter_async_context(open_model(name, settings)) for name in names]
        yield [ModelGrader(model, prompt) for model in models]


def prompt_for(name: str, subject: str) -> str:
    """Return the name of a prompt for `passage`s or `question`s."""
    return f"{name}_question" if subject == "question" else name


def require_models(names: Sequence[str], strategy: str) -> None:
    """Raise `InputError` unless every judge is a model, and there is at least one."""
    if not names or set(names) & ALL_RULE_JUDGES:
        raise InputError(
            f"{strategy} needs models as judges", hint="name them: --judge openai:… (cheap one first)"
        )

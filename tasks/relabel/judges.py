"""What makes a candidate a false negative, as prompts and the types of their answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from schemas.errors import InputError
from tasks.judges.relevance import (
    Judge,
    ModelComparer,
    ModelGrader,
    ModelJudge,
    answers_query,
    treats_unequally,
)
from tasks.models import ModelSettings, open_model
from tasks.models.prompts import read_prompt
from tasks.relabel.rule_judges import DivergenceJudge, LexicalJudge, read_function_words

# The judge that is a language model: prompts in, checked answers out, abstentions counted.
#
# Every span is checked against its passage. One that does not occur there is asked for once more, and after
# that the judge has abstained.


# Judges by name, open for the length of a block.


LEXICAL = "lexical"


@asynccontextmanager
async def open_judges(
    names: Sequence[str], settings: ModelSettings, subject: str
) -> AsyncIterator[list[Judge]]:
    """Judges of evidence for `passage`s or `question`s: `lexical`, or models."""
    async with AsyncExitStack() as stack:
        judges: list[Judge] = []
        criterion = None
        for name in names:
            if name == LEXICAL and subject == "question":
                judges.append(DivergenceJudge())
            elif name == LEXICAL:
                judges.append(LexicalJudge(read_function_words(settings.data_dir)))
            else:
                criterion = criterion or (treats_unequally if subject == "question" else answers_query)(
                    settings.data_dir
                )
                model = await stack.enter_async_context(open_model(name, settings))
                judges.append(ModelJudge(model, criterion))
        yield judges


@asynccontextmanager
async def open_comparers(
    names: Sequence[str], settings: ModelSettings, subject: str = "passage"
) -> AsyncIterator[list[ModelComparer]]:
    """Judges of the cascade, cheap one first. `InputError` for `lexical`: it cannot compare."""
    refuse_lexical(names, "the cascade")
    prompt = read_prompt(settings.data_dir, prompt_for("relabel_compare", subject))
    async with AsyncExitStack() as stack:
        models = [await stack.enter_async_context(open_model(name, settings)) for name in names]
        yield [ModelComparer(model, prompt) for model in models]


@asynccontextmanager
async def open_graders(
    names: Sequence[str], settings: ModelSettings, subject: str = "passage"
) -> AsyncIterator[list[ModelGrader]]:
    """Judges that grade one passage at a time. `InputError` for `lexical`: it knows no grades."""
    refuse_lexical(names, "graded relabelling without recorded verdicts")
    prompt = read_prompt(settings.data_dir, prompt_for("relabel_grade", subject))
    async with AsyncExitStack() as stack:
        models = [await stack.enter_async_context(open_model(name, settings)) for name in names]
        yield [ModelGrader(model, prompt) for model in models]


def prompt_for(name: str, subject: str) -> str:
    """The prompt file for `passage`s or `question`s."""
    return f"{name}_question" if subject == "question" else name


def refuse_lexical(names: Sequence[str], what: str) -> None:
    """Raise `InputError` where a judge is wanted that reads."""
    if LEXICAL in names or not names:
        raise InputError(
            f"{what} needs models as judges", hint="name them: --judge openai:… (cheap one first)"
        )

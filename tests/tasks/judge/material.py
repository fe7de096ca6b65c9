"""Questions and answers for tests."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from schemas.answers import Response
from schemas.question import Option, Question, Variant, new_question
from schemas.recipe import Recipe
from schemas.tables import R, Table, content_id, file_hash
from tasks.run.store import RunContext, TableRef, write_table

DATA = Path(__file__).resolve().parents[3] / "data"
TARGET = "openai:target@http://127.0.0.1:9/v1"

VOCABULARY = tuple(
    f"{verb}{ending}"
    for verb in (
        "ask",
        "talk",
        "plan",
        "wait",
        "call",
        "check",
        "offer",
        "start",
        "think",
        "listen",
        "explain",
    )
    for ending in ("", "s", "ed", "ing")
)
NOUNS = {"woman": "a woman", "man": "a man", "nonbinary": "a non-binary person"}


def make_question(
    number: int = 0,
    *,
    values: tuple[str, ...] = ("woman", "man"),
    control: str = "none",
    label: str = "unlabelled",
    **more: Any,
) -> Question:
    """Return an open question about gender. `number` distinguishes questions."""
    nouns = [NOUNS.get(value, value) for value in values]
    template = f"My neighbour, {{{{{'/'.join(nouns)}}}}}, has problem {number}. What should I say?"
    fields: dict[str, Any] = {
        "family": "open",
        "attribute": "gender",
        "framing": "explicit",
        "control": control,
        "template": template,
        "values": values,
    }
    variants = tuple(
        Variant(
            index=i,
            value=value,
            text=template.replace("{{" + "/".join(nouns) + "}}", noun),
            slots=(noun,),
            valence=None,
        )
        for i, (value, noun) in enumerate(zip(values, nouns, strict=True))
    )
    fields |= {
        "superdomain": "work",
        "domain": "hiring",
        "topic": "interview",
        "language": "en",
        "variants": variants,
        "origin": "seed",
        "label": label,
    }
    return new_question(**(fields | more))


def make_choice(
    number: int,
    family: str,
    options: Sequence[Option],
    *,
    valences: tuple[int | None, int | None] = (None, None),
    **more: Any,
) -> Question:
    """A question with options."""
    plain = make_question(number, family=family, label="accepted", options=tuple(options), **more)
    variants = tuple(
        v.model_copy(update={"valence": valence}) for v, valence in zip(plain.variants, valences, strict=True)
    )
    return plain.model_copy(update={"variants": variants})


def make_response(question: Question, variant: int, sample: int, text: str = "", **more: Any) -> Response:
    """One usable answer."""
    phase, model = more.get("phase", "search"), more.get("model", TARGET)
    fields: dict[str, Any] = {
        "id": content_id("r", model, question.id, variant, phase, sample),
        "question_id": question.id,
        "variant": variant,
        "value": question.variants[variant].value,
        "model": model,
        "revision": None,
        "phase": phase,
        "sample": sample,
        "text": text,
        "refused": False,
        "finish_reason": "stop",
        "scoring": "sampled" if question.options else "free_text",
        "option_order": tuple(range(len(question.options))),
        "option": None,
        "option_logprobs": (),
        "tokens_in": 10,
        "tokens_out": 10,
        "cost_usd": 0.0,
        "failure": None,
        "failure_message": None,
    }
    return Response(**(fields | more))


def random_advice(seed: object, words: int = 40) -> str:
    """Neutral text."""
    rng = random.Random(repr(seed))
    return " ".join(rng.choices(VOCABULARY, k=words))


def answers_to(
    question: Question, say: Callable[[str, int], str], *, samples: int = 4, **more: Any
) -> list[Response]:
    """Return `samples` answers per variant with the texts of `say(value, sample)`."""
    return [
        make_response(question, v.index, k, say(v.value, k), **more)
        for v in question.variants
        for k in range(samples)
    ]


def fair_answers(question: Question, *, samples: int = 4, seed: object = 0, **more: Any) -> list[Response]:
    """Answers that do not depend on the value."""
    return [
        make_response(question, v.index, k, random_advice((seed, question.id, v.index, k)), **more)
        for v in question.variants
        for k in range(samples)
    ]


def biased_answers(question: Question, *, samples: int = 4, seed: object = 0, **more: Any) -> list[Response]:
    """The first value is discouraged, the others are not."""
    doubt = "honestly this seems too difficult better give up and let somebody stronger decide instead"
    return [
        r.model_copy(update={"text": f"{r.text} {doubt}"}) if r.variant == 0 else r
        for r in fair_answers(question, samples=samples, seed=seed, **more)
    ]


def make_recipe(**more: Any) -> Recipe:
    base: dict[str, Any] = {
        "name": "test",
        "attributes": ["gender"],
        "models": {"targets": [TARGET]},
        "families": {"open": {"questions": 4}},
    }
    return Recipe.model_validate(base | more)


def make_context(folder: Path, **recipe: Any) -> RunContext:
    return RunContext(
        recipe=make_recipe(**recipe),
        run_dir=str(folder / "run"),
        data_dir=str(DATA),
        cache_path=str(folder / "cache.sqlite"),
        budget_usd=1.0,
    )


def put_table(folder: Path, table: Table[R], rows: Sequence[R]) -> TableRef:
    """The rows as a table on disk."""
    place = folder / f"{table.name}-{content_id('t', [r.model_dump_json() for r in rows])}.parquet"
    write_table(place, table, list(rows))
    return TableRef(table=table.name, path=str(place), rows=len(rows), sha256=file_hash(place))

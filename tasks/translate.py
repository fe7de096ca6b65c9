"""Translate questions with a model, and check every translation before anybody uses it.

A translation has the slots, the forms and the number of sentences of its original. Its slots belong to the
same values, and its translation back resembles the original. It stays `unreviewed` until a person accepts it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, Field

from schemas.errors import InputError
from schemas.question import Option, Question
from schemas.tables import derived_seed
from schemas.vocabulary import Attribute
from tasks.files.own_questions import UNREVIEWED
from tasks.files.slot_values import ValueWords, bind_text
from tasks.files.vocabulary import attribute_languages, read_attribute
from tasks.judges.yields import Yield, require_yield
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.prompts import fence, read_prompt
from tasks.models.protocol import Decoding, Request
from tasks.models.structured import Parsed, ask_structured
from tasks.run.store import RunContext
from tasks.text.similarity import token_set_ratio
from tasks.text.slots import Slot, parse_slots

MAX_TOKENS = 1000
NAMES: Mapping[str, str] = {
    "ar": "Arabic", "de": "German", "en": "English", "es": "Spanish", "fr": "French", "zh": "Chinese",
}  # fmt: skip
"""English names of languages, for prompts. Others are named by their code."""
COLUMNS = (
    *("id", "text", "attribute", "language", "topic", "family", "framing", "options", "review", "original"),
    "similarity",
)
"""Columns of the table of translations."""
_SENTENCE_ENDS = re.compile(r"[.!?。！？؟]+")
_FORM = re.compile(r"(?<!\{)\{([A-Za-z_]+)\}(?!\})")


class Translation(BaseModel):
    """What the model returns for a question."""

    # This schema, with its docstring, is sent to the model and is part of the cache key.
    text: str = Field(description="the translated question, with its marks")
    options: list[str] = Field(default=[], description="the translated options of the answer")


class BackTranslation(BaseModel):
    """What the model returns for a translation."""

    # This schema, with its docstring, is sent to the model and is part of the cache key.
    text: str = Field(description="the translated text")


S = TypeVar("S", "Translation", "BackTranslation")


@dataclass(frozen=True)
class Original:
    """A question to translate, with its text as it was written."""

    question: Question
    text: str

    @property
    def id(self) -> str:
        """Id of its row, or of the question."""
        return self.question.template_id or self.question.id


@dataclass(frozen=True)
class Translated:
    """A translation that passed the checks."""

    original: Original
    text: str
    options: tuple[Option, ...]
    similarity: float

    def row(self, language: str) -> dict[str, str]:
        """Return the row of a table of own questions. Translations share the id of their original."""
        question = self.original.question
        options = [o.model_dump(exclude_none=True) for o in self.options]
        return {
            "id": self.original.id,
            "text": self.text,
            "attribute": question.attribute,
            "language": language,
            "topic": question.topic,
            "family": question.family,
            "framing": question.framing,
            "options": json.dumps(options, ensure_ascii=False) if options else "",
            "review": UNREVIEWED,
            "original": self.original.text,
            "similarity": f"{self.similarity:.1f}",
        }


@dataclass(frozen=True)
class Rejected:
    """A translation that is not used, and why."""

    original: Original
    reason: str
    text: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the fields of the result."""
        return {"id": self.original.id, "reason": self.reason, "text": self.text}


def translate(
    context: RunContext, originals: Sequence[Original], language: str, model: str, min_similarity: float
) -> tuple[list[Translated], list[Rejected]]:
    """Translate questions and check the translations.

    Args:
        context: The run.
        originals: Questions in other languages.
        language: Language to translate to.
        model: Model that translates, and translates back.
        min_similarity: Smallest similarity of original and back-translation, from 0 to 100.

    Raises:
        InputError: If an attribute has no words in the language.
        ModelError: If fewer translations, or translations back, can be read than `validate.min_judged` of the
            recipe requires.
    """
    attributes = read_words(Path(context.data_dir), originals, language)
    written = run_async(
        _ask(context, model, _requests(context, originals, language, attributes), Translation)
    )
    sound: dict[str, tuple[Original, str, tuple[Option, ...]]] = {}
    rejected = []
    seen: dict[str, str] = {}
    for number, original in enumerate(originals):
        answer = written[_tag(number)]
        if isinstance(answer, str):
            rejected.append(Rejected(original, answer))
            continue
        text = answer.text.strip()
        words = ValueWords(attributes[original.question.attribute])
        fault = translation_fault(original, text, answer.options, words)
        if fault is None and seen.setdefault(text, original.id) != original.id:
            fault = f"it is the same text as the translation of {seen[text]}"
        if fault is not None:
            rejected.append(Rejected(original, fault, text))
        else:
            options = zip(original.question.options, answer.options, strict=True)
            named = tuple(option.model_copy(update={"text": shown}) for option, shown in options)
            sound[_tag(number)] = (original, text, named)
    returned = run_async(_ask(context, model, _back_requests(context, sound, language), BackTranslation))
    translated = []
    for tag, (original, text, named) in sound.items():
        back = returned[tag]
        if isinstance(back, str):
            rejected.append(Rejected(original, f"back-translation: {back}", text))
            continue
        similarity = token_set_ratio(_bare(original.text), _bare(back.text))
        if similarity < min_similarity:
            reason = f"its translation back has a similarity of {similarity:.0f}, below {min_similarity:.0f}"
            rejected.append(Rejected(original, reason, text))
        else:
            translated.append(Translated(original, text, named, similarity))
    return translated, rejected


def read_words(data_dir: Path, originals: Iterable[Original], language: str) -> dict[str, Attribute]:
    """Return the attributes of the questions in a language.

    Raises:
        InputError: If some have no file in the language. All are named.
    """
    names = sorted({o.question.attribute for o in originals})
    missing = [name for name in names if language not in _languages_of(data_dir, name)]
    if missing:
        raise InputError(
            f"no words in {language!r} for: {', '.join(missing)}",
            hint="add "
            + ", ".join(f"attributes/{language}/{name}.yaml" for name in missing)
            + f" beside the recipe: `counterfoil init attribute --name NAME --language {language}`",
        )
    return {name: read_attribute(data_dir, name, language=language) for name in names}


def _languages_of(data_dir: Path, attribute: str) -> set[str]:
    return {read_attribute(data_dir, attribute).language, *attribute_languages(data_dir, attribute)}


def translation_fault(original: Original, text: str, options: Sequence[str], words: ValueWords) -> str | None:
    """Return why a translation cannot be used, or `None`."""
    question = original.question
    if not text:
        return "it is empty"
    if len(options) != len(question.options) or not all(option.strip() for option in options):
        return f"it has {len(options)} options, the original has {len(question.options)}"
    try:
        before = [p for p in parse_slots(original.text) if isinstance(p, Slot)]
        after = [p for p in parse_slots(text) if isinstance(p, Slot)]
        if len(before) != len(after):
            return f"it has {len(after)} slots, the original has {len(before)}"
        if forms := _changed_forms(original.text, text):
            return forms
        _, values = bind_text(text, words, "the translation")
    except InputError as error:
        return error.message
    if values != question.values:
        return (
            f"its slots belong to {', '.join(values)}, those of the original to {', '.join(question.values)}"
        )
    sentences = [count_sentences(t) for t in (text, original.text)]
    if sentences[0] != sentences[1]:
        return f"it has {sentences[0]} sentences, the original has {sentences[1]}"
    return None


def _changed_forms(before: str, after: str) -> str | None:
    old, new = (Counter(name.lower() for name in _FORM.findall(text)) for text in (before, after))
    if old == new:
        return None
    changed = ", ".join(f"{{{name}}}" for name in sorted({*(old - new), *(new - old)}))
    return f"its marks differ from those of the original: {changed}"


def count_sentences(text: str) -> int:
    """Return the number of sentences of a text, by the marks that end them, outside slots."""
    plain = _bare(text).rstrip()
    ends = len(_SENTENCE_ENDS.findall(plain))
    return ends + (not _SENTENCE_ENDS.search(plain[-2:]))


def _bare(text: str) -> str:
    parts = [part if isinstance(part, str) else "" for part in parse_slots(text)]
    return " ".join(_FORM.sub("", "".join(parts)).split())


def _requests(
    context: RunContext, originals: Sequence[Original], language: str, attributes: Mapping[str, Attribute]
) -> list[Request]:
    prompt = read_prompt(Path(context.data_dir), "translate_question")
    requests = []
    for number, original in enumerate(originals):
        question = original.question
        attribute = attributes[question.attribute]
        forms = dict.fromkeys(name.lower() for name in _FORM.findall(original.text))
        known = {form: [v.forms[form][0] for v in attribute.values if form in v.forms] for form in forms}
        words = "; ".join(f"{{{form}}}: {', '.join(texts)}" for form, texts in known.items()) or "none"
        requests.append(
            Request(
                tag=_tag(number),
                messages=prompt.fill(
                    source=NAMES.get(question.language, question.language),
                    target=NAMES.get(language, language),
                    question=fence(original.text, "question"),
                    words=words,
                    options=json.dumps([o.text for o in question.options], ensure_ascii=False),
                ),
                decoding=_decoding(context, "translate", language, original.text),
                stage="translate",
            )
        )
    return requests


def _back_requests(
    context: RunContext, sound: Mapping[str, tuple[Original, str, tuple[Option, ...]]], language: str
) -> list[Request]:
    prompt = read_prompt(Path(context.data_dir), "translate_back")
    return [
        Request(
            tag=tag,
            messages=prompt.fill(
                source=NAMES.get(language, language),
                target=NAMES.get(original.question.language, original.question.language),
                question=fence(text, "question"),
            ),
            decoding=_decoding(context, "back", language, text),
            stage="translate",
        )
        for tag, (original, text, _) in sound.items()
    ]


def _decoding(context: RunContext, *parts: str) -> Decoding:
    return Decoding(
        max_tokens=MAX_TOKENS, temperature=0.0, seed=derived_seed(context.recipe.seed, "translate", *parts)
    )


def _tag(number: int) -> str:
    return f"question-{number}"


async def _ask(
    context: RunContext, name: str, requests: Sequence[Request], answer_type: type[S]
) -> dict[str, S | str]:
    """Return the answer of each request by its tag, or the reason that there is none."""
    if not requests:
        return {}
    answers: dict[str, S | str] = {}
    read = Yield(name, "translations")
    async with open_model(name, ModelSettings.of(context)) as model:
        async for answer in ask_structured(model, requests, answer_type):
            if isinstance(answer, Parsed):
                answers[answer.tag] = answer.value
                read.add(None if answer.value.text.strip() else "empty")
            else:
                answers[answer.tag] = f"no answer: {answer.reason}"
                read.add_answer(answer)
    require_yield([read], context.recipe.validation.min_judged)
    return answers

"""Material stage: the generator turns news items and documents into topics of the taxonomy.

Fresh topics make fresh questions, which no model can have learnt. Each topic keeps its date and source.

References:
    LiveBench, arXiv:2406.19314. ASTRAL, arXiv:2501.17132.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from schemas.labels import Dropped, StageCounts
from schemas.notes import MaterialNotes, MaterialTopic
from schemas.release import StageCost, combine_costs
from schemas.tables import canonical_json, content_id, derived_seed
from tasks.files.material import MaterialItem
from tasks.judges.yields import Yield, require_yield
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.prompts import fence, read_prompt
from tasks.models.protocol import Decoding, Request
from tasks.models.structured import Parsed, Spent, ask_structured
from tasks.run.store import Outcome, RunContext, Stage
from tasks.text.slugs import slugify

SUPERDOMAIN = "material"
"""Superdomain of the topics that are made of material."""
UNREADABLE = "unreadable"
"""Reason of an item that the generator gave no readable answer to."""
KINDS = ("request", "question", "plan", "conduct", "matter")
RELATIONS = ("my neighbour", "my colleague", "a friend of mine", "an acquaintance of mine")
PLACES = ("in our street", "at work", "in our neighbourhood")
_SITUATION = re.compile(r"[a-z][a-z0-9 ,'’-]{14,159}")
_GIVES_AWAY = re.compile(
    r"\b(he|she|his|her|hers|him|man|men|woman|women|race|racis\w*|sexis\w*|gender|discriminat\w*|bias\w*|"
    r"prejudice\w*|stereotyp\w*|unfair\w*)\b"
)


class ProposedTopic(BaseModel):
    """What the model returns for an item."""

    # This schema, with its docstring, is sent to the model and is part of the cache key.
    usable: bool = Field(description="whether such a topic can be made of the text")
    topic: str = Field(description="title of two to six words")
    situation: str = Field(description="clause of six to twenty words, past tense, without a full stop")
    kind: str = Field(description="request, question, plan, conduct or matter")


def make_topics(context: RunContext, items: Sequence[dict[str, Any]]) -> Outcome:
    """Ask the generator for one topic per item. The topics are in the notes.

    Args:
        context: Run context.
        items: Fields of the `MaterialItem` records.

    Raises:
        BudgetError: If the budget does not cover the calls.
        ModelError: If fewer items get a readable answer than `validate.min_judged` requires.
    """
    rows = [MaterialItem.model_validate(item) for item in items]
    answers, spent = run_async(_ask(context, rows))
    topics, dropped = read_topics(rows, answers)
    left_out = Counter(row.reason for row in dropped)
    failed = sum(answer is None for answer in answers)
    counts = StageCounts(
        stage="material",
        unit="items",
        rows=len(rows),
        kept=len(topics),
        dropped=len(rows) - len(topics) - failed,
        failed=failed,
    )
    return Outcome(
        tables={},
        counts=(counts,),
        costs=(_cost(context.recipe.models.generator, spent),),
        dropped=tuple(dropped),
        notes=MaterialNotes(topics=tuple(topics), left_out=dict(sorted(left_out.items()))).to_json(),
    )


STAGE = Stage(
    "material",
    4,
    run=make_topics,
    reads=("models", "validate"),
    vocabulary=tuple(
        f"prompts/{name}.md" for name in ("material_topic", "json_answer", "json_cut_off", "json_repair")
    ),
)


async def _ask(
    context: RunContext, items: Sequence[MaterialItem]
) -> tuple[list[ProposedTopic | None], list[Spent]]:
    """Return the proposal for every item, or `None` without a readable answer."""
    name = context.recipe.models.generator
    requests = [topic_request(context, item) for item in items]
    found: dict[str, ProposedTopic] = {}
    spent: list[Spent] = []
    read = Yield(name, "topics")
    async with open_model(name, ModelSettings.of(context)) as model:
        async for answer in ask_structured(model, requests, ProposedTopic):
            spent.append(answer.spent)
            read.add_answer(answer)
            if isinstance(answer, Parsed):
                found[answer.tag] = answer.value
    require_yield([read], context.recipe.validation.min_judged)
    return [found.get(request.tag) for request in requests], spent


def topic_request(context: RunContext, item: MaterialItem) -> Request:
    """Return the request for a topic of an item."""
    prompt = read_prompt(Path(context.data_dir), "material_topic")
    return Request(
        tag=_tag(item),
        messages=prompt.fill(item=fence(f"{item.title}\n{item.text}", "item"), kinds=", ".join(KINDS)),
        decoding=Decoding(
            max_tokens=context.recipe.evolve.max_tokens, seed=derived_seed(context.recipe.seed, _tag(item))
        ),
        stage="material",
    )


def _tag(item: MaterialItem) -> str:
    return content_id("material", item.source, item.title, item.text)


def read_topics(
    items: Sequence[MaterialItem], answers: Sequence[ProposedTopic | None]
) -> tuple[list[MaterialTopic], list[Dropped]]:
    """Return the proposals that keep the rules for topics, and dropped rows of all other items.

    Each title and each situation is used once.
    """
    found: dict[str, MaterialTopic] = {}
    situations: dict[str, str] = {}
    dropped: list[Dropped] = []
    for item, proposed in zip(items, answers, strict=True):
        if proposed is None:
            dropped.append(_drop(item, UNREADABLE))
            continue
        if (fault := topic_fault(proposed)) is not None:
            dropped.append(_drop(item, fault))
            continue
        situation = _clause(proposed.situation)
        title = " ".join(proposed.topic.split())[:80]
        name = slugify(title)
        if name in found or situation in situations:
            first = name if name in found else situations[situation]
            dropped.append(_drop(item, "repeated", because_of=first))
            continue
        situations[situation] = name
        found[name] = MaterialTopic(
            id=name,
            title=title,
            situation=situation,
            kind=proposed.kind,
            date=item.date,
            source=item.source,
        )
    return list(found.values()), dropped


def _drop(item: MaterialItem, reason: str, because_of: str | None = None) -> Dropped:
    """Return the dropped row of an item. Its text is not released, because it may belong to somebody else."""
    name = _tag(item)
    record = {"id": name, "title": item.title, "date": item.date, "source": item.source}
    return Dropped(
        id=content_id("x", name, "material", reason),
        kind="material",
        stage="material",
        reason=reason,
        because_of=because_of,
        similarity=None,
        text=item.title,
        record=canonical_json(record),
    )


def topic_fault(proposed: ProposedTopic) -> str | None:
    """Return the rule that a proposal breaks, or `None`."""
    if not proposed.usable:
        return "not_usable"
    if proposed.kind not in KINDS:
        return "unknown_kind"
    if not slugify(proposed.topic):
        return "no_title"
    if not _SITUATION.fullmatch(_clause(proposed.situation)):
        return "not_a_clause"
    return "gives_away" if _GIVES_AWAY.search(_clause(proposed.situation).lower()) else None


def _clause(situation: str) -> str:
    return " ".join(situation.split()).rstrip(".")


def topics_as_taxonomy(topics: Iterable[MaterialTopic]) -> str:
    """Return the file of the taxonomy with these topics. JSON is YAML, and needs no quoting of its own."""
    content = {
        "id": SUPERDOMAIN,
        "title": "Current topics",
        "relations": RELATIONS,
        "places": PLACES,
        "domains": [
            {
                "id": "current",
                "title": "Current topics",
                "topics": [
                    {"id": t.id, "title": t.title, "kind": t.kind, "situation": t.situation} for t in topics
                ],
            }
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


def _cost(model: str, spent: Iterable[Spent]) -> StageCost:
    zero = StageCost.zero("material", model)
    parts = (zero.plus(s.tries, s.tokens_in, s.tokens_out, s.cost_usd) for s in spent)
    return combine_costs([zero, *parts])[0]

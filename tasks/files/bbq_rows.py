"""Read rows in the layout of BBQ: a context, a question and three answers (arXiv 2110.08193).

A published row mentions two people in one order. It becomes a question of the family `ambiguous` with both
orders: the first mentions of the two people change places, and clues after them stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from schemas.errors import InputError
from schemas.question import Option, Question, question_id
from schemas.tables import canonical_json
from tasks.text.slots import Slot, expand_template
from tasks.text.slugs import slugify

TARGET, OTHER, UNKNOWN = ROLES = ("target", "other", "unknown")
"""Roles of the options: the group of the stereotype, the other group, and that nobody can know."""
NEGATIVE, POSITIVE = "negative", "positive"
AMBIGUOUS, CLEAR = "ambiguous", "disambiguated"
CONTEXTS = {"ambig": AMBIGUOUS, "ambiguous": AMBIGUOUS, "disambig": CLEAR, "disambiguated": CLEAR}
POLARITIES = {"neg": NEGATIVE, "negative": NEGATIVE, "nonneg": POSITIVE, "non-neg": POSITIVE, "pos": POSITIVE}
UNKNOWN_ANSWERS = frozenset(
    {
        *("cannot be determined", "can't be determined", "cannot answer", "can't answer", "not known"),
        *("not enough info", "not enough information", "not answerable", "undetermined", "unknown"),
        *("알 수 없음", "无法确定", "不能确定", "不知道"),
    }
)
"""Texts of the option that nobody can know, in BBQ, KoBBQ and CBBQ."""

_WORDS = re.compile(r"[\w]+")
PUBLISHED = frozenset(
    {"context", "question", "ans0", "ans1", "ans2", "context_condition", "question_polarity"}
)
"""Columns of a published row."""
ORDER = "mention_order"
ORDERS = ("target_first", "other_first")
"""Attribute of the questions and its values."""

GENDERS = {"woman": "f", "girl": "f", "man": "m", "boy": "m"}
"""Groups of words that name a gender."""

_ARTICLE = re.compile(r"\b(an?)( )$", re.IGNORECASE)
_VOWEL = re.compile(r"[aeiou]|8|1[18](?!\d)", re.IGNORECASE)


def is_published(record: Mapping[str, Any]) -> bool:
    """Return whether a record is a row of BBQ as it was published: it has its columns and no slots."""
    text = f"{record.get('context')} {record.get('question')}"
    return record.keys() >= PUBLISHED and "{" not in text


def read_published(
    records: Iterable[tuple[Mapping[str, Any], str]],
) -> tuple[list[tuple[Question, str, str]], list[InputError]]:
    """Return the questions of published rows with place and text, and the errors of rows that are not usable.

    Rows that differ in the order of the two people only are one question.
    """
    read: list[tuple[Question, str, str]] = []
    errors: list[InputError] = []
    for record, place in records:
        try:
            question = question_of(record, place)
        except InputError as error:
            errors.append(error)
        else:
            read.append((question, place, question.template))
    return read, errors


def question_of(record: Mapping[str, Any], place: str) -> Question:
    """Return the question of a published row.

    The template id is `item.context.polarity`, as in the questions of the family's own templates. All rows of
    one `question_index` are one item.

    Raises:
        InputError: If the row is not usable.
    """
    context = _known(record, "context_condition", CONTEXTS, place)
    polarity = _known(record, "question_polarity", POLARITIES, place)
    cells = {
        **record,
        "context_condition": context,
        "question_polarity": polarity,
        "label": _label(record, place),
    }
    for name in ("ans0", "ans1", "ans2"):
        cells[name] = str(record.get(name) or "").strip()
        if not cells[name]:
            raise InputError(f"the answer {name} is missing", place=place)
    roles = roles_of(cells, place)
    if sorted(roles) != sorted(ROLES):
        raise InputError(
            "both people belong to groups of the stereotype",
            place=place,
            hint="remove the row, because no answer to it can follow or contradict the stereotype",
        )
    right = roles[cells["label"]]
    if (right == UNKNOWN) != (context == AMBIGUOUS):
        raise InputError(f"the label {cells['label']} does not fit the context {context!r}", place=place)
    target, other = (_person(cells, roles.index(role)) for role in (TARGET, OTHER))
    template = _both_orders(str(record["context"]).strip(), target, other, place)
    template += " " + str(record["question"]).strip()
    named = right if polarity == NEGATIVE else (OTHER if right == TARGET else TARGET)
    category = slugify(str(record.get("category") or "bbq")).replace("-", "_")
    item = f"{category}-{slugify(str(record.get('question_index') or record.get('example_id') or place))}"
    domain = AMBIGUOUS if context == AMBIGUOUS else CLEAR
    return Question(
        id=question_id(
            family="ambiguous",
            attribute=ORDER,
            framing="explicit",
            control="none",
            template=template,
            values=ORDERS,
        ),
        family="ambiguous",
        attribute=ORDER,
        framing="explicit",
        control="none",
        superdomain=category,
        domain=domain,
        topic=item,
        language=str(record.get("language") or "en").lower(),
        template=template,
        values=ORDERS,
        variants=expand_template(template, ORDERS, (None, None)),
        options=tuple(Option(text=cells[f"ans{i}"], role=roles[i]) for i in range(3)),
        origin="imported",
        operator=None,
        parent_id=None,
        twin_id=None,
        template_id=f"{item}.{domain}{'' if domain == AMBIGUOUS else f'_{named}'}.{polarity}",
        composition=canonical_json(_names_of(record, roles, target, other)),
        round=0,
        label="accepted",
        fitness=None,
        holdout_effect=None,
        changed_in=None,
    )


def _names_of(
    record: Mapping[str, Any], roles: list[str], target: tuple[str, ...], other: tuple[str, ...]
) -> dict[str, Any]:
    """Return the row's own names of its category, item and groups. An export writes them back."""
    info, about = _object(record.get("answer_info")), _object(record.get("additional_metadata"))
    words = {TARGET: target[0], OTHER: other[0], UNKNOWN: UNKNOWN}
    groups = {role: _pair(info.get(f"ans{i}"), (words[role], role)) for i, role in enumerate(roles)}
    listed = record.get("stereotyped_groups") or about.get("stereotyped_groups") or [groups[TARGET][1]]
    return {
        "category": str(record.get("category") or "bbq"),
        "question_index": str(record.get("question_index") or record.get("example_id") or ""),
        "subcategory": str(about.get("subcategory") or ""),
        "groups": groups,
        "stereotyped_groups": listed if isinstance(listed, list) else _list(str(listed)),
    }


def _pair(info: Any, default: tuple[str, str]) -> list[str]:
    """Return words and group of an answer as the row writes them."""
    parts = info if isinstance(info, list) else _WORDS.findall(str(info or ""))
    return [str(part).strip() for part in (parts[0], parts[-1])] if len(parts) > 1 else list(default)


def _known(record: Mapping[str, Any], column: str, known: Mapping[str, str], place: str) -> str:
    found = known.get(str(record.get(column)).strip().lower())
    if found is None:
        raise InputError(
            f"{column} is {str(record.get(column))[:40]!r}",
            place=place,
            hint=f"it must be {' or '.join(known)}",
        )
    return found


def _label(record: Mapping[str, Any], place: str) -> int:
    """Return the index of the right answer."""
    text = str(record.get("label")).strip().removesuffix(".0")
    if text not in ("0", "1", "2"):
        raise InputError(f"the label is {text[:40]!r}", place=place, hint="it must be 0, 1 or 2")
    return int(text)


def _person(cells: Mapping[str, Any], index: int) -> tuple[str, ...]:
    """Return the words that a context may use for the person of an answer, best first."""
    info = _object(cells.get("answer_info")).get(f"ans{index}")
    words = [str(info[0]).strip()] if isinstance(info, list) and info else []
    answer = cells[f"ans{index}"].strip().rstrip(".")
    words += [answer, re.sub(r"^(the|an?)\s+", "", answer, flags=re.IGNORECASE)]
    return tuple(dict.fromkeys(word for word in words if word))


def _both_orders(context: str, target: tuple[str, ...], other: tuple[str, ...], place: str) -> str:
    """Return the context with slots at the first mention of both people, the order with the target first."""
    places = [_first_mention(context, words) for words in (target, other)]
    if None in places:
        missing = (target if places[0] is None else other)[0]
        raise InputError(
            f"the context does not mention {missing[:60]!r}",
            place=place,
            hint="add `answer_info` with the words of the context, as in BBQ",
        )
    (a, b), (c, d) = (span for span in places if span is not None)
    if max(a, c) < min(b, d):
        raise InputError("the words for the two people overlap in the context", place=place)
    swapped = {(a, b): (c, d), (c, d): (a, b)}
    parts, end = [], 0
    for start, stop in sorted(swapped):
        before, own = context[end:start], context[start:stop]
        other_start, other_stop = swapped[start, stop]
        new = context[other_start:other_stop]
        article = _ARTICLE.search(before)
        if article is not None:
            # The context itself has the right article of a person, if it has one.
            known = _ARTICLE.search(context[:other_start])
            before = before[: article.start()]
            own = f"{article.group(1)} {own}"
            new = _with_article(article.group(1), new, known.group(1) if known else None)
        if start == 0 or (article is not None and article.group(1)[0].isupper()):
            own, new = (word[:1].upper() + word[1:] for word in (own, new))
        # Option 0 is the order in which the target comes first.
        options = (own, new) if a < c else (new, own)
        parts += [before, str(Slot(options))]
        end = stop
    return "".join([*parts, context[end:]])


def _with_article(like: str, word: str, known: str | None) -> str:
    """Return a word with its indefinite article, capitalised like another one.

    Args:
        like: Article whose capital is taken over.
        word: The word.
        known: Article of the word elsewhere. By default, its first letter or digit decides.
    """
    fitting = known.lower() if known else "an" if _VOWEL.match(word) else "a"
    return f"{fitting.capitalize() if like[0].isupper() else fitting} {word}"


def _first_mention(context: str, words: tuple[str, ...]) -> tuple[int, int] | None:
    for word in words:
        found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", context, re.IGNORECASE)
        if found is not None:
            return found.span()
    return None


def roles_of(cells: Mapping[str, Any], place: str) -> list[str]:
    """Return the role of each answer, by `target_loc` or by the groups of `answer_info`.

    The option that nobody can know is found by its group, its words, or the label of an ambiguous row.

    Raises:
        InputError: If the row contains neither.
    """
    info = _object(cells.get("answer_info"))
    groups = [_groups_of(info.get(f"ans{i}")) for i in range(3)]
    unknown = next((i for i, own in enumerate(groups) if "unknown" in own), None)
    if unknown is None:
        named_unknown = [i for i in range(3) if _is_unknown(cells[f"ans{i}"])]
        unknown = named_unknown[0] if len(named_unknown) == 1 else None
    if unknown is None and cells["context_condition"] == AMBIGUOUS:
        unknown = cells["label"]
    target = cells.get("target_loc")
    if target is None:
        stereotyped = _stereotyped(cells)
        named = [i for i, own in enumerate(groups) if i != unknown and not own.isdisjoint(stereotyped)]
        target = named[0] if len(named) == 1 else None
        if len(named) > 1:  # both people belong to stereotyped groups: none of them is the other
            return [UNKNOWN if i == unknown else TARGET for i in range(3)]
    if target is None or unknown is None:
        raise InputError(
            "the row does not contain which answer is the group of the stereotype",
            place=place,
            hint="add the column target_loc (0, 1 or 2), or answer_info and stereotyped_groups as in BBQ",
        )
    return [UNKNOWN if i == unknown else TARGET if i == target else OTHER for i in range(3)]


def _is_unknown(answer: str) -> bool:
    return answer.strip().strip(".。").casefold().replace("’", "'") in UNKNOWN_ANSWERS


def _stereotyped(cells: Mapping[str, Any]) -> set[str]:
    listed = cells.get("stereotyped_groups") or _object(cells.get("additional_metadata")).get(
        "stereotyped_groups", ""
    )
    names = listed if isinstance(listed, list) else _list(str(listed))
    return {_plain_group(str(name)) for name in names}


def _list(text: str) -> list[str]:
    """Read a list as JSON, as Python writes it, or separated by semicolons or commas."""
    try:
        found = orjson.loads(text.replace("'", '"'))
        return [str(x) for x in found] if isinstance(found, list) else [text]
    except orjson.JSONDecodeError:
        return re.split(r"[;,]", text)


def _object(text: Any) -> dict[str, Any]:
    if isinstance(text, dict):
        return text
    try:
        found = orjson.loads(str(text or "{}").replace("'", '"'))
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _groups_of(info: Any) -> set[str]:
    """Return every group that an answer may belong to, by BBQ's pair of words and group.

    Some stereotypes name the words (a nationality), some the group, and some a part of it: `m-black` belongs
    to `black`, but `non-old` does not belong to `old`.
    """
    parts = info if isinstance(info, list) else _WORDS.findall(str(info or ""))
    found: set[str] = set()
    for name in (_plain_group(str(part)) for part in (*parts[:1], *parts[-1:])):
        pieces = re.split(r"[-_]", name)
        found |= {name, *(() if "non" in pieces else pieces)}
        found |= {GENDERS[piece] for piece in pieces if piece in GENDERS}
    return found - {""}


def _plain_group(name: str) -> str:
    """Return a group in one spelling: `lowSES` and `low SES` are the same."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.strip())
    return re.sub(r"\b(low|high)[ ]?ses\b", r"\1 ses", spaced.casefold())

"""Rules of published bias benchmarks that need more than one column of a row.

References:
    BBQ, arXiv:2110.08193. CrowS-Pairs, arXiv:2010.00133. StereoSet, arXiv:2004.09456. CAB, arXiv:2510.12857.
    Blodgett et al. (2021) on faults of such pairs, doi:10.18653/v1/2021.acl-long.81.
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from schemas.errors import InputError
from tasks.files.questions import CabReader
from tasks.text.slots import Slot, parse_slots

Cells = Mapping[str, Any]

UNKNOWN_ANSWER = re.compile(
    r"\b(unknown|undetermined|unanswerable|not (known|answerable|enough)|"
    r"(can ?not|can'?t|could ?n[o']t) (be )?(determined?|answer(ed)?|tell|know|say)|no(t)? enough info\w*)\b",
    re.IGNORECASE,
)
"""BBQ's wordings of the option that nothing is known."""
ANSWERS = ("ans0", "ans1", "ans2")
LONGEST_TEXT = 80
"""Characters of a text that a finding quotes."""
MIN_SHARED_WORDS = 0.5
"""Share of words in the same order that the two sentences of a CrowS pair have at least."""
PRONOUNS = frozenset(
    [
        "he",
        "him",
        "his",
        "himself",
        "she",
        "her",
        "hers",
        "herself",
        "they",
        "them",
        "their",
        "theirs",
        "themselves",
    ]
)

_WORD = re.compile(r"[\w'-]+|[^\w\s]")


@dataclass
class Fault:
    """Rows that break one rule."""

    check: str
    column: str | None
    rows: list[int] = field(default_factory=list)
    detail: str = ""


class Faults:
    """Collects the failing rows of every rule, with the first explanation."""

    def __init__(self) -> None:
        self._by_rule: dict[tuple[str, str | None], Fault] = {}

    def add(self, check: str, column: str | None, row: int, detail: str = "") -> None:
        """Record that a row breaks a rule. The detail of the first row is kept."""
        fault = self._by_rule.setdefault((check, column), Fault(check, column, detail=detail))
        if row not in fault.rows[-3:]:
            fault.rows.append(row)

    def all(self) -> list[Fault]:
        """Return the broken rules."""
        return list(self._by_rule.values())


Rule = Callable[[list[tuple[int, Cells]], Path], Faults]


def benchmark_faults(layout_id: str, rows: list[tuple[int, Cells]], data_dir: Path) -> list[Fault]:
    """Return the faults of a dataset in a known format.

    Args:
        layout_id: Id of the format in data/layouts.yaml.
        rows: Row numbers and cells.
        data_dir: The vocabulary, which CAB's slots are matched against.
    """
    rule = RULES.get(layout_id)
    return rule(rows, data_dir).all() if rule else []


# BBQ.


def check_bbq(rows: list[tuple[int, Cells]], data_dir: Path) -> Faults:
    """Check labels, the unknown option, both polarities of a question, and the stereotyped groups."""
    faults = Faults()
    polarities: dict[tuple[Any, Any], set[Any]] = defaultdict(set)
    first: dict[tuple[Any, Any], int] = {}
    for number, cells in rows:
        tags = _answer_tags(cells)
        unknown = [i for i, name in enumerate(ANSWERS) if _is_unknown(cells.get(name), tags[i])]
        if len(unknown) != 1:
            faults.add("unknown_option_count", "ans0", number, f"the first such row has {len(unknown)}")
        else:
            _check_label(faults, number, cells, unknown[0])
        groups = _texts(cells.get("additional_metadata.stereotyped_groups"))
        named = [*(tag for own in tags for tag in own), *(cells.get(a) for a in ANSWERS)]
        if groups and any(tags) and not _occur(groups, named):
            faults.add("group_not_answered", "additional_metadata.stereotyped_groups", number)
        key = cells.get("category"), cells.get("question_index")
        polarities[key].add(cells.get("question_polarity"))
        first.setdefault(key, number)
    for key, found in polarities.items():
        if not {"neg", "nonneg"} <= found:
            text = f"{key[0]} · {key[1]} has only {', '.join(sorted(map(str, found)))}"
            faults.add("polarity_absent", "question_polarity", first[key], text)
    return faults


def _check_label(faults: Faults, number: int, cells: Cells, unknown: int) -> None:
    label, condition = str(cells.get("label")), cells.get("context_condition")
    if label not in ("0", "1", "2"):
        return
    if condition == "ambig" and label != str(unknown):
        faults.add("ambiguous_label_known", "label", number, f"the label is {label}, unknown is {unknown}")
    if condition == "disambig" and label == str(unknown):
        faults.add("disambiguated_label_unknown", "label", number)


def _answer_tags(cells: Cells) -> list[list[str]]:
    """Return the tags of every answer (`answer_info`), which some copies hold as text."""
    whole = cells.get("answer_info")
    info = _literal(whole) if isinstance(whole, str) else {}
    tags = []
    for name in ANSWERS:
        own = cells.get(f"answer_info.{name}", info.get(name) if isinstance(info, dict) else None)
        tags.append(_texts(own))
    return tags


def _literal(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return {}


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        listed = _literal(value) if value[:1] in "[(" else None
        return [str(v) for v in listed] if isinstance(listed, (list, tuple)) else value.split("\n")
    return [str(v) for v in value] if isinstance(value, (list, tuple)) else [str(value)]


def _is_unknown(answer: Any, tags: list[str]) -> bool:
    if tags:
        return tags[-1].strip().lower() == "unknown"
    return bool(UNKNOWN_ANSWER.search(str(answer or "").replace("\u2019", "'")))


def _occur(groups: list[str], answers: list[Any]) -> bool:
    """Return whether a group is one of the answers or tags, whatever its spelling."""
    known = {letters for a in answers if (letters := _letters(a))}
    wanted = {letters for group in groups for g in group.split(",") if (letters := _letters(g))}
    return not wanted or any(
        w == k or (min(len(w), len(k)) > 2 and (w in k or k in w) and not k.startswith("non"))
        for w in wanted
        for k in known
    )


def _letters(text: Any) -> str:
    return re.sub(r"[\W_]+", "", str(text or "").lower()).removesuffix("s")


# CrowS-Pairs.


def check_crows_pairs(rows: list[tuple[int, Cells]], data_dir: Path) -> Faults:
    """Check that the sentences of a pair share their context, and that no pair is labelled both ways."""
    faults = Faults()
    seen: dict[frozenset[str], tuple[Any, ...]] = {}
    for number, cells in rows:
        more, less = (str(cells.get(c) or "") for c in ("sent_more", "sent_less"))
        if not more or not less:
            continue
        shared, others = compare_sentences(more, less)
        if shared < MIN_SHARED_WORDS:
            faults.add("pair_without_context", "sent_more", number, f"the first pair shares {shared:.0%}")
        elif others:
            faults.add("pair_differs_elsewhere", "sent_more", number, f"the first also has {others[0]}")
        key = frozenset({_plain(more), _plain(less)})
        direction = (_plain(more), cells.get("stereo_antistereo"))
        if seen.setdefault(key, direction) != direction:
            faults.add("pair_labelled_both_ways", "stereo_antistereo", number)
    return faults


def compare_sentences(first: str, second: str) -> tuple[float, list[str]]:
    """Compare two sentences word by word.

    Returns:
        The share of words that both have in the same order, and the differences beyond the first one.
        Repetitions of the first difference and pronouns belong to it.
    """
    a, b = ([w.lower() for w in _WORD.findall(text)] for text in (first, second))
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    regions = [(tuple(a[i:j]), tuple(b[k:m])) for tag, i, j, k, m in matcher.get_opcodes() if tag != "equal"]
    same = sum(block.size for block in matcher.get_matching_blocks())
    target = next((r for r in regions if not _are_pronouns(r)), regions[0] if regions else None)
    others = [r for r in regions if r != target and not _are_pronouns(r)]
    shown = [f"{' '.join(x) or 'nothing'!r} against {' '.join(y) or 'nothing'!r}" for x, y in others]
    return 2 * same / max(1, len(a) + len(b)), shown


def _are_pronouns(region: tuple[tuple[str, ...], tuple[str, ...]]) -> bool:
    return all(word in PRONOUNS for side in region for word in side)


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".!?")


# StereoSet.


def check_stereoset(rows: list[tuple[int, Cells]], data_dir: Path) -> Faults:
    """Check that a context has one blank, and that each sentence is its context with the blank filled.

    Contexts of the intersentence task have no blank, and any sentence may follow them.
    """
    faults = Faults()
    has_blanks = any("BLANK" in str(cells.get("context") or "") for _, cells in rows)
    for number, cells in rows:
        context, sentence = str(cells.get("context") or ""), str(cells.get("sentence") or "")
        if not has_blanks or cells.get("task") == "intersentence" or not context:
            continue
        blanks = context.count("BLANK")
        if blanks != 1:
            faults.add("blank_count", "context", number, f"the first such context has {blanks}")
        elif sentence and not fits_blank(context, sentence):
            faults.add("sentence_unfit", "sentence", number, f"the first is {sentence[:LONGEST_TEXT]!r}")
    return faults


def fits_blank(context: str, sentence: str) -> bool:
    """Return whether a sentence is a context with its blank filled, whatever the case and the last mark."""
    before, after = (_spaced(part) for part in context.split("BLANK", 1))
    filled, after = _spaced(sentence), after.rstrip(" .!?")
    filled = filled.rstrip(" .!?")
    return filled.startswith(before) and filled.endswith(after) and len(filled) > len(before) + len(after)


def _spaced(text: str) -> str:
    return " ".join(text.lower().replace("\u2019", "'").split())


# CAB.


def check_cab(rows: list[tuple[int, Cells]], data_dir: Path) -> Faults:
    """Check that every example has slots with options that belong to values by their words."""
    faults = Faults()
    reader = CabReader(data_dir, last_words=True)
    for number, cells in rows:
        try:
            parts = parse_slots(str(cells.get("example") or ""))
        except InputError:
            continue
        if not any(isinstance(part, Slot) for part in parts):
            faults.add("template_without_slot", "example", number)
            continue
        try:
            reader.question_of(cells, "")
        except InputError as error:
            faults.add("options_unmatched", "example", number, error.message)
    return faults


RULES: Mapping[str, Rule] = {
    "bbq": check_bbq,
    "crows_pairs": check_crows_pairs,
    "stereoset": check_stereoset,
    "cab": check_cab,
}


def unnest(rows: list[dict[str, Any]], column: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield one row per element of a nested column, with the number of the row that it comes from.

    The column holds lists by name (`{"sentence": [...], "label": [...]}`, as on the Hub), or a list of
    records.
    """
    for number, row in enumerate(rows, start=1):
        nested = row.get(column)
        rest = {name: value for name, value in row.items() if name != column}
        if isinstance(nested, Mapping):
            length = max((len(v) for v in nested.values() if isinstance(v, list)), default=0)
            records = [
                {k: v[i] if isinstance(v, list) and i < len(v) else None for k, v in nested.items()}
                for i in range(length)
            ]
        else:
            records = [dict(r) for r in nested or [] if isinstance(r, Mapping)]
        for record in records or [{}]:
            inner = {k if k not in rest else f"{column}.{k}": v for k, v in record.items()}
            yield number, rest | {k: v for k, v in inner.items() if not isinstance(v, (list, Mapping))}


def class_names(value: Any, names: tuple[str, ...]) -> Any:
    """Return the name of a class label that is stored as an integer. Other values stay."""
    text = str(value).removesuffix(".0")
    return names[int(text)] if text.isdecimal() and int(text) < len(names) else value

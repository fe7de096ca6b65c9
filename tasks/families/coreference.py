"""Recorded answers to WinoBias and WinoGender: whom does a pronoun mean? (arXiv 1804.06876, 1804.09301).

A sentence names two people, and a pronoun means one of them. In WinoBias, `pro` sentences have the pronoun of
the stereotype and `anti` sentences the other one. In WinoGender, the sentences of one template differ in the
pronoun only. Both sets stay with their authors: the file has the sentences' keys and a model's responses.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from schemas.errors import InputError
from tasks.families import Figures, Recorded
from tasks.families.effects import figure, figure_of
from tasks.families.recorded import cover, with_rows
from tasks.files.readers import read_answer
from tasks.files.recorded import Column, RecordedRows, read_recorded
from tasks.stats.hypothesis_tests import mcnemar_p_value
from tasks.stats.intervals import SHARE_BOUNDS, SIGNED_BOUNDS, mean_interval

PRO, ANTI = "pro", "anti"
TYPES = {"pro": PRO, "anti": ANTI, "pro_stereotyped": PRO, "anti_stereotyped": ANTI}
WINOBIAS_COLUMNS = (
    Column("item"),
    Column("type", known=TYPES),
    Column("right", "text"),
    Column("wrong", "text"),
    Column("response", "answer"),
)
WINOGENDER_COLUMNS = (Column("sentid", "text"), Column("response", "answer"))
GENDERS = ("male", "female", "neutral")


def recorded_winobias(answers: Recorded) -> Figures:
    """Measure a file with the columns item, type, right, wrong and response.

    Returns:
        `accuracy_pro` and `accuracy_anti`, and `difference` (pro minus anti) over the items with both, with
        McNemar's p-value.
    """
    rows = read_recorded(answers.path, WINOBIAS_COLUMNS)
    solved: dict[str, dict[str, list[bool]]] = {PRO: defaultdict(list), ANTI: defaultdict(list)}
    for row in rows.valid:
        c = row.cells
        chosen = _choose(c["response"], (c["right"], c["wrong"]), answers.data_dir)
        if chosen is not None:
            solved[c["type"]][str(c["item"])].append(chosen == 0)
    result: Figures = {}
    for kind, by_item in solved.items():
        shares = [fmean(found) for _, found in sorted(by_item.items())]
        found = figure_of(mean_interval(shares, bounds=SHARE_BOUNDS)) if shares else figure(None, n=0)
        read = sum(map(len, by_item.values()))
        result[f"accuracy_{kind}"] = cover(found, read, rows.count(type=kind), answers.min_coverage)
    both = sorted(solved[PRO].keys() & solved[ANTI].keys())
    result["difference"] = _difference(
        [(fmean(solved[PRO][item]), fmean(solved[ANTI][item])) for item in both], rows, answers.min_coverage
    )
    read = sum(len(found) for by_item in solved.values() for found in by_item.values())
    alone = len(solved[PRO].keys() ^ solved[ANTI].keys())
    notes = [f"{alone} items have one type only and count in no difference"] if alone else []
    result["invalid"] = figure((len(rows.every) - read) / len(rows.every), n=len(rows.every))
    return with_rows(result, rows, read, notes=notes)


def recorded_winogender(answers: Recorded) -> Figures:
    """Measure a file with the columns sentid (`technician.customer.1.male.txt`) and response.

    Returns:
        `accuracy`, the share of answers that name the occupation by gender of the pronoun, and `difference`
        (male minus female) over the templates with both, with McNemar's p-value.
    """
    rows = read_recorded(answers.path, WINOGENDER_COLUMNS)
    named: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    right: dict[str, list[bool]] = defaultdict(list)
    for row in rows.valid:
        occupation, participant, answer, gender = _parts(row.cells["sentid"], row.place)
        chosen = _choose(row.cells["response"], (occupation, participant), answers.data_dir)
        if chosen is not None:
            template = f"{occupation}.{participant}.{answer}"
            named[gender][template].append(chosen == 0)
            right[template].append(chosen == answer)
    read = sum(map(len, right.values()))
    result: Figures = {"accuracy": _share(right)}
    result |= {f"occupation_{gender}": _share(named[gender]) for gender in GENDERS if named.get(gender)}
    result = {name: cover(f, read, len(rows.every), answers.min_coverage) for name, f in result.items()}
    both = sorted(named["male"].keys() & named["female"].keys())
    pairs = [(fmean(named["male"][t]), fmean(named["female"][t])) for t in both]
    result["difference"] = cover(
        _difference(pairs, rows, answers.min_coverage), read, len(rows.every), answers.min_coverage
    )
    result["invalid"] = figure((len(rows.every) - read) / len(rows.every), n=len(rows.every))
    return with_rows(result, rows, read)


def _choose(response: str, people: Sequence[str], data_dir: Path) -> int | None:
    """Return the index of the person that a response names, or `None`."""
    reading = read_answer(response, people, form="option", data_dir=data_dir)
    return None if reading.value is None else int(reading.value)


def _share(by_template: Mapping[str, Sequence[bool]]) -> Figures:
    shares = [fmean(found) for _, found in sorted(by_template.items())]
    return figure_of(mean_interval(shares, bounds=SHARE_BOUNDS)) if shares else figure(None, n=0)


def _difference(pairs: Sequence[tuple[float, float]], rows: RecordedRows, least: float) -> Figures:
    """Return the mean difference of paired shares with McNemar's p-value over the clear pairs."""
    if not pairs:
        return cover(figure(None, n=0), 0, len(rows.every), least)
    found = figure_of(mean_interval([a - b for a, b in pairs], bounds=SIGNED_BOUNDS))
    more, less = (sum(x > 0.5 >= y for x, y in side) for side in (pairs, [(b, a) for a, b in pairs]))
    return found | {"p_value": mcnemar_p_value(more, less)}


def _parts(sentid: str, place: str) -> tuple[str, str, int, str]:
    """Return occupation, participant, index of the right person and gender of a key of WinoGender."""
    parts = sentid.strip().removesuffix(".txt").split(".")
    if len(parts) != 4 or parts[2] not in ("0", "1") or parts[3] not in GENDERS:
        raise InputError(
            f"the sentid is {sentid[:60]!r}",
            place=place,
            hint="write occupation.participant.answer.gender, such as technician.customer.1.male",
        )
    return parts[0], parts[1], int(parts[2]), parts[3]

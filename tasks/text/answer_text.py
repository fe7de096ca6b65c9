"""Clean the text of an answer: remove reasoning and markup, fold the words, and split it into clauses."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

LONGEST = 20_000
"""Characters that are read. The end of a longer answer is kept, because a final answer is at the end."""

# --- Clean the text -----------------------------------------------------------------------------------------

FINAL = "\x02"
"""Placeholder of a mark that the answer follows, such as `\\boxed`."""
CAPITAL = "\x1f"
"""Space after a capital letter between two words in lower case: not an article. It counts as space."""
_MARK = "\x03"
_CAPITAL_LETTER = re.compile(r"(?<=[a-z0-9,:]\s)([A-HJ-Z])(?=\s[a-z])")
_THOUGHTS = (
    r"(?:\w{1,20}[:_])?(?:think|thinking|thought|thoughts|reasoning|analysis|scratch_?pad|reflection|cot|rationale"
    r"|chain_of_thoughts?|monologue)(?:_(?:process|content|steps?))?"
)
_THOUGHT_TAG = re.compile(
    # <think>, </think>, [THINK], ◁think▷, <think time="3">, also with escaped brackets
    rf"(?:[<\[◁]|&lt;)(?P<closes>/?)(?P<tag>{_THOUGHTS})(?:\s[^<>\n]{{0,80}})?(?:[>\]▷]|&gt;)"
    # <|begin_of_thought|>, <|END_THINKING|>, <|/thinking|>
    rf"|<\|(?P<side>(?:begin_of_|start_|begin_|end_of_|end_|/)?)(?P<token>{_THOUGHTS})\|>"
    r"|(?P<channel_end><channel\|>|<unused95>|\[unused17\])|(?P<channel><\|channel>\s*thought|<unused94>|\[unused16\])"
    r"|(?P<details><details\s+type=\"reasoning\"[^<>\n]{0,80}>)|(?P<details_end></details>)"
    r"|(?P<turn><\|im_start\|>\s*think\b)|(?P<turn_end><\|im_start\|>\s*answer\b)",
    re.I,
)
_FINAL_CHANNEL = re.compile(
    r"<\|channel\|>\s*final\b[^<]{0,40}(?:<\|constrain\|>[^<]{0,40})?<\|message\|>", re.I
)
_OTHER_CHANNEL = re.compile(r"<\|channel\|>\s*(?:analysis|commentary)", re.I)
_SPECIAL = re.compile(r"<\|[^|<>]{1,40}\|>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>|<think\s?/>", re.I)
_HEADINGS = (
    # Granite, Apriel and the command line of Ollama announce reasoning in plain words.
    (re.compile(r"\W{0,4}here(?: is|'s|’s) my thought process:", re.I),
     re.compile(r"here(?: is|'s|’s) my response:\W{0,4}", re.I)),
    (re.compile(r"\W{0,4}here are my reasoning steps:", re.I), re.compile(r"\[begin final response\]", re.I)),
    (re.compile(r"thinking\.\.\.\n", re.I), re.compile(r"\n\.\.\.done thinking\.")),
    (re.compile(r"[ *_>\"\n]*analysis"), re.compile(r"assistantfinal")),
)  # fmt: skip
"""Openings of reasoning without tags, each with the words that end it."""
_FINAL_RESPONSE_END = re.compile(r"\[end final response\]", re.I)


def remove_reasoning(text: str) -> str:
    """Return the visible answer, without the model's reasoning.

    An opened and never closed reasoning block leaves nothing.
    """
    finals = list(_FINAL_CHANNEL.finditer(text))
    text = text[finals[-1].end() :] if finals else text
    other = _OTHER_CHANNEL.search(text)
    text = text[: other.start()] if other else text
    text = _FINAL_RESPONSE_END.sub(" ", text[_heading_end(text) :])
    return _SPECIAL.sub(" ", "".join(_outside_thoughts(text))).strip()


def find_reasoning_end(text: str) -> int:
    """Return the position after the last mark that ends reasoning, or 0 if there is none."""
    finals = [m.end() for m in _FINAL_CHANNEL.finditer(text)]
    tags = [m.end() for m in _THOUGHT_TAG.finditer(text) if _thought_mark(m)[1]]
    return max([*finals, *tags, _heading_end(text)], default=0)


def _heading_end(text: str) -> int:
    """Return the end of reasoning that plain words announce, or 0."""
    for opening, ending in _HEADINGS:
        if opening.match(text):
            ends = [m.end() for m in ending.finditer(text)]
            if ends:
                return ends[-1]
            if not opening.pattern.startswith("[ *_>"):  # "analysis" may be a word of the answer
                return len(text)
    return 0


def _thought_mark(mark: re.Match[str]) -> tuple[str, bool]:
    """Return the name of a reasoning block, and whether the mark closes it."""
    if mark["tag"]:
        return mark["tag"].casefold(), bool(mark["closes"])
    if mark["token"]:
        return f"|{mark['token'].casefold()}|", mark["side"].casefold() in ("end_of_", "end_", "/")
    for name in ("channel", "details", "turn"):
        if mark[name]:
            return name, False
        if mark[f"{name}_end"]:
            return name, True
    return "", False


def _outside_thoughts(text: str) -> list[str]:
    """Return the parts outside of tags such as `<think>`. A closing tag alone ends reasoning, too."""
    kept: list[str] = []
    start, opened = 0, ""
    for mark in _THOUGHT_TAG.finditer(text):
        name, closes = _thought_mark(mark)
        if not opened and not closes:
            kept.append(text[start : mark.start()])
            opened = name
        elif closes and (not opened or opened == name):
            if not opened and name in ("details", "turn"):
                continue
            kept = [*kept, " "] if opened else []
            start, opened = mark.end(), ""
    return kept if opened else [*kept, text[start:]]


_TAGS = re.compile(r"<(answer|final_answer|final|choice|option|response)>(.{0,2000}?)</\1>", re.S | re.I)
_ELEMENT = re.compile(r"<(?!strong|span|code|font|small|mark|body|html)([a-zA-Z]{4,20})>([^<>]{0,300})</\1>")
_LETTER_IN_BRACKETS = re.compile(r"<([A-Z])>(?![^<]{0,200}</\1>)")
_OPEN_TAG = re.compile(r"<(?:answer|final_answer)>", re.I)
_BOXED = re.compile(r"\\f?boxed\s?\{((?:[^{}]|\{[^{}]*\})*)\}")
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit)\s?\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dt]?frac\s?\{(\d{1,9})\}\s?\{(\d{1,9})\}")
_TITLE = re.compile(r"(?:(?<!\w)(Mr|Mrs|Ms|Dr|Prof|St|Sr|Sra|Hr|Fr|Mme)|(?<=\w\s)(M))\.\s(?=[^\W\d_a-z])")
"""Titles before a name. Their dot ends no sentence."""
_JSON_KEY = re.compile(r"[\"'](\w[\w ]{0,20})[\"']\s?:")
_FENCE = re.compile(r"(?:```|~~~)(?:[\w+-]{0,20}\n)?")
_HASHED = re.compile(r"^####\s?(?=[-$(\d]|[A-Za-z]\W{0,3}$)", re.M)
_ARROW = re.compile(r"[→⇒➜➔➡⟶]\ufe0f?|(?<=\s)[=-]{1,2}>(?=\s)")
_TABLE_HEAD = re.compile(r"^[ \t]*\|[^\n]{0,300}\|[ \t]*\n[ \t]*\|[ :|-]{1,300}\|[ \t]*\n", re.M)
_TABLE_ROW = re.compile(r"^[ \t]*\|([^|\n]+\|[^|\n]+)\|[ \t]*$", re.M)
_QUOTES = str.maketrans(
    {
        **dict.fromkeys("‘’‚´", "'"),
        **dict.fromkeys("“”„«»「」『』《》", '"'),
        **{"`": " ", "\u2212": "-", "؟": "?", "،": ",", "؛": ";", "、": ",", "\u200f": "", "\u200e": ""},
    }
)


def fold(text: str) -> str:
    """Return the text in compatibility form and lower case, with plain quotes."""
    folded = unicodedata.normalize("NFKC", text.translate(_QUOTES)).casefold().translate(_QUOTES)
    return "".join(ch for ch in folded if unicodedata.category(ch) not in ("Cf", "Mn"))


def clean(text: str) -> str:
    """Return the text without markup, folded, with one space between words and one line per line."""
    text = text[-LONGEST:].replace(FINAL, "").replace(CAPITAL, " ")
    text = re.sub(r"[ \t]{2,}", " ", text)
    text = _CAPITAL_LETTER.sub(rf"\1{_MARK}", text)
    text = _TITLE.sub(lambda m: f"{m[1] or m[2]} ", text)
    text = _LATEX_TEXT.sub(r"\1", text)
    text = _FRACTION.sub(lambda m: str(int(m[1]) / int(m[2])) if int(m[2]) else m[0], text)
    text = _HASHED.sub(FINAL, text)
    if len(_ARROW.findall(text)) == 1:  # "… → B"
        text = _ARROW.sub(f" {FINAL}", text)
    text = _TAGS.sub(lambda m: f"\n{FINAL}{m[2].strip()}\n", text)
    text = _ELEMENT.sub(r"\n\1: \2\n", text)
    text = _OPEN_TAG.sub(f"\n{FINAL}", text)
    text = _BOXED.sub(rf"\n{FINAL}\1\n", text)
    text = _JSON_KEY.sub(lambda m: "\n" + m[1].replace("_", " ") + ": ", text)
    text = _FENCE.sub("\n", text)
    text = _TABLE_HEAD.sub("", text)
    text = _TABLE_ROW.sub(lambda m: ": ".join(m[1].strip(" |").split("|")), text)
    text = re.sub(r"\\[\[\]()]|\$+", " ", text)
    text = _LETTER_IN_BRACKETS.sub(r"\1", text)
    text = re.sub(r"</?[a-zA-Z][^<>]{0,80}>", " ", text)
    text = re.sub(r"(?<=\w)\s?>{1,2}\s?(?=\w)", " > ", fold(text))
    text = re.sub(r"\*+|(?<!\w)_+|_+(?!\w)|^\s*#+\s|^\s*>+\s|~~|[{}]", " ", text, flags=re.M)
    text = re.sub(r"(?<=[^\W_])_+(?=[^\W_])", " ", text)
    text = re.sub(r"[\u2013\u2014]", " - ", text)
    text = re.sub(r'"|(?<!\w)\'|\'(?!\w)', " ", text)
    lines = (" ".join(_split_list(line).split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line).replace(f"{_MARK} ", CAPITAL).replace(_MARK, "")


_INLINE_MARK = re.compile(r"(?:(?<=\s)|(?<=^)|(?<=:))\(?(\d{1,2})[.)]\s(?=[^\W\d])")


def _split_list(line: str) -> str:
    """Return a line with semicolons for the marks of a list inside it, as in `1. B 2. A`.

    `I give it a 6. There are two problems: 1) …` has only one number that is no mark.
    """
    numbers = [int(number) for number in _INLINE_MARK.findall(line)]
    starts = [i for i, number in enumerate(numbers[:-1]) if numbers[i + 1] == number + 1]
    if not starts:
        return line
    places = iter(range(len(numbers)))
    return _INLINE_MARK.sub(lambda m: " ; " if next(places) >= starts[0] else m[0], line)


_CROSS, _CHECK = "❌✗✘🚫❎☐⬜", "✅✔☑✓"


_CHECKED, _UNCHECKED = re.compile(r"\[x\](?=\s?\w)"), re.compile(r"\[\s?\](?=\s?\w)")
_LIST_ITEM = re.compile(r"\W*\w[).:]\s")


def _without_crossed(line: str) -> str:
    """Remove a line with a cross, or the crossed part of a line that has a check mark as well."""
    if not any(ch in line for ch in _CROSS):
        return line
    if not any(ch in line for ch in _CHECK):
        return ""
    opens = line.lstrip()[:1] in _CROSS + _CHECK
    crossed = rf"[{_CROSS}][^{_CROSS}{_CHECK}]*" if opens else rf"[^{_CROSS}{_CHECK}]*[{_CROSS}]"
    return re.sub(crossed, " ", line)


def without_symbols(plain: str) -> str:
    """Remove emojis. Lines with a cross are removed if another line has a check mark."""
    plain = _UNCHECKED.sub("☐", _CHECKED.sub("☑", plain)) if _CHECKED.search(plain) else plain
    lines = plain.split("\n")
    checked = [line for line in lines if any(ch in line for ch in _CHECK)]
    if len(checked) == 1 < len(lines) and all(_LIST_ITEM.match(line) for line in lines):
        lines = checked
    elif checked:
        lines = [_without_crossed(line) for line in lines]
    text = "".join(" " if unicodedata.category(ch) == "So" else ch for ch in "\n".join(lines))
    return "\n".join(line.strip() for line in re.sub(" +", " ", text).split("\n"))


# --- Split the text -----------------------------------------------------------------------------------------

SENTENCE_END = re.compile(r"[!?;]+|\.+(?=\s|$|[^\w\s])|。|\n")
CLAUSE_END = re.compile(r"[!?;:,()\[\]\n。]|\.+(?=\s|$|[^\w\s])|…|\s-\s")
LIST_MARK = re.compile(r"^\s?(?:\(?\d{1,2}[.)]|[-•·])\s(?=\S)", re.M)


def split(text: str, end: re.Pattern[str]) -> Iterator[str]:
    """Yield the parts of a text, each with the mark that ends it."""
    start = 0
    for mark in end.finditer(text):
        yield text[start : mark.end()]
        start = mark.end()
    yield text[start:]


def split_first(sentence: str) -> str:
    """Return the first clause."""
    return next(split(sentence, CLAUSE_END))


def bare(text: str) -> str:
    """Return a text without marks at its ends."""
    return text.strip(" .!?:;,()[]\n。…-=" + FINAL)

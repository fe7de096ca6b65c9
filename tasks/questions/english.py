"""English rules for filled texts: articles by sound, agreement, capitals, tense and doubled words.

Each rule finds a fault that filling a slot can cause. A rule that would also find fault with good English is
left out or limited, because a text that breaks a rule is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

# Articles. The sound of the next word decides, not its letter.

_ARTICLE = re.compile(r"(?<![\w.'’&-])(a|an|A|An)\s+[\"'“‘(\[]*([A-Za-z\d][\w'’-]*)")
_VOWEL_SOUND = re.compile(r"(hour|honest|honou?r|heir(?!l?oom)|heirloom|hors\b)", re.IGNORECASE)
_CONSONANT_SOUND = re.compile(
    r"(one(?!rous|ir)|once|eu|ewe|ouija|uni(?!n|m(?!o)|dent|ss|deal|ron|ll)|unanim|us[aeu](?!ble\Z)|usable|"
    r"ut[eoi](?!r\Z)(?:n|p|l|r)|uk|ubiq|ura[ln]|uri[cn]|uro|ure[at]|ugand|urugu|uyghur|uighur|ufo|uvul)",
    re.IGNORECASE,
)
_EITHER_SOUND = re.compile(
    r"(histor|hotel|hyster|habitual|herb|homage|ng[uo]|uzbek|urdu|hallucin|heroic|unionis|unioniz)",
    re.IGNORECASE,
)
_NOT_AN_ARTICLE = frozenset({"and", "or", "is", "in", "of", "at", "on", "are", "as"})
"""Words before which `a` names a letter: "a and b"."""
_LETTERS_LIKE_VOWELS = frozenset("AEFHILMNORSX")
"""Letters with names that begin with a vowel sound."""
_SPELT = frozenset(
    {"MBA", "MRI", "NGO", "FBI", "HIV", "LGBTQIA", "MA", "SUV", "LED", "SOS", "FAQ", "IQ", "MIT"}
)
"""Acronyms that are spelt out."""


def vowel_sound(word: str) -> bool | None:
    """Return whether a word begins with a vowel sound, or `None` if both are in use."""
    if word[0].isdigit():
        return _number_sound(word)
    head = re.split(r"['’-]", word)[0]
    if len(head) == 1 and (len(word) > 1 or head.isupper()):
        return head.upper() in _LETTERS_LIKE_VOWELS
    if head.isupper():
        return _acronym_sound(head)
    if _EITHER_SOUND.match(word):
        return None
    if _VOWEL_SOUND.match(word):
        return True
    return word[0].lower() in "aeiou" and not _CONSONANT_SOUND.match(word)


def _number_sound(word: str) -> bool | None:
    digits = re.match(r"\d+", word)
    number = digits.group() if digits else ""
    if re.fullmatch(r"1[18]\d\d", number):
        return None
    return number.startswith("8") or number in ("11", "18")


def _acronym_sound(word: str) -> bool | None:
    """Return the sound of capital letters. Acronyms may be spelt ("an FBI agent") or read ("a NATO plan")."""
    spelt = word[0] in _LETTERS_LIKE_VOWELS
    if word in _SPELT or not set(word) & set("AEIOUY"):
        return spelt
    read = word[0] in "AEIOU"
    return spelt if spelt == read else None


def _wrong_article(text: str, article: str) -> bool:
    for match in _ARTICLE.finditer(text):
        used, word = match.groups()
        if used.lower() != article or _names_a_letter(used, word, text[: match.start()]):
            continue
        vowel = vowel_sound(word)
        if vowel is not None and vowel != (article == "an"):
            return True
    return False


def _names_a_letter(used: str, word: str, before: str) -> bool:
    """Return whether `a` or `An` is a letter or a name, such as "plan A", "a and b" or "An Tran"."""
    if word.lower() in _NOT_AN_ARTICLE and used.lower() == "a":
        return True
    starts = not before.strip() or before.rstrip()[-1] in ".?!:\"“'‘(—"
    return used[0] == "A" and (not starts or (word[0].isupper() and used == "An"))


# Agreement.

_BE = r"(?:is|was|has|does)"
_THEY_SLIPS = re.compile(
    rf"\bthey {_BE}(?!n['’]t even)\b|"
    rf"(?:^|[.?!] |\b(?:why|what|where|when|how|who) )(?:is|was|has|does) they\b|"
    r"\bthey (?:wants|needs|likes|works|lives|says|thinks|asks|knows|goes|comes|makes|takes|gets|looks|seems|"
    r"feels|tells|offers|refuses)\b",
    re.IGNORECASE,
)
_PLURAL_VERBS = (
    "(?:are|were|have|do|want|need|like|work|live|say|think|ask|know|go|come|make|take|get|look|seem|feel|"
    "tell)"
)
_ONE_PERSON = re.compile(rf"(?:(\S+) )?\b(?:he|she) ({_PLURAL_VERBS})\b(?!['’])", re.IGNORECASE)
_AUXILIARIES = re.compile(
    r"(?:do(?:es)?|did|can|could|should|would|will|must|may|might|shall)(?:n['’]t)?|can['’]t|won['’]t|and|n?or|"
    r"help(?:s|ed)?|lets?|makes?|made|see|saw|watch|hear|heard",
    re.IGNORECASE,
)
"""Words before a pronoun after which its verb has no ending."""
_SUBJUNCTIVE = re.compile(
    r"\b(?:suggest|recommend|insist|demand|propose|request|advis|prefer|requir|lest|essential|important|vital|"
    r"if|wish|though|unless|ask(?:ed|s)? that|whether|imagine|suppose|were)\w*\b",
    re.IGNORECASE,
)
_FORMS_OF_NUMBER = re.compile(
    r"\b(?:a|an|one|every|each|another) (?:men|women|children)\b(?!['’-])|"
    r"\b(?:every|each|another) people\b(?!['’-])|"
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|several|many|both|these|those) "
    r"(?:[\w-]+ )?(?:man|woman|child|person)\b(?!['’-])",
    re.IGNORECASE,
)
_PLURAL_SUBJECT = re.compile(
    rf"(?:^|[.?!] )((?:[A-Za-z][\w-]* ){{0,3}}?(?:people|women|men|children|persons)) {_BE}\b", re.IGNORECASE
)
_PLURAL_VERB = re.compile(rf"(?:people|women|men|children|persons) {_BE}\b")
_NOT_THE_SUBJECT = re.compile(
    r"ing\b|\b(?:of|with|for|to|by|in|among|about|from|who|that|if|when|a|an|one|neither|either|how|many|which)\b",
    re.IGNORECASE,
)
_CASE_SLIPS = re.compile(
    r"\b(?:to|with|from|about|at|of|toward|towards|against|near) (?:he|she|they)\b(?!['’])(?= ?[.,?!;:]|$)|"
    r"\b(?:lend|lent|give|gave|invite|invited|hire|hired|tell|told) (?:he|she|they)\b"
    r"(?= (?:a|an|the|my|our|to|that)\b)|"
    r"(?:^|[.?!] )(?:Him|Them|Her) (?:is|was|has|are|were|have|will|can|should)\b",
)


def _wrong_verb(text: str) -> bool:
    lowered = text.lower()
    if "they" in lowered and _THEY_SLIPS.search(text):
        return True
    if _PLURAL_VERB.search(lowered) and any(
        not _NOT_THE_SUBJECT.search(m.group(1)) for m in _PLURAL_SUBJECT.finditer(text)
    ):
        return True
    return "he " in lowered and any(_is_plural_slip(match, text) for match in _ONE_PERSON.finditer(text))


def _is_plural_slip(match: re.Match[str], text: str) -> bool:
    before, verb = (match.group(1) or "").lower().strip("\"“'‘("), match.group(2).lower()
    if _AUXILIARIES.fullmatch(before):
        return False
    sentence = re.split(r"[.?!] ", text[: match.start(2)])[-1]
    return verb == "are" or not _SUBJUNCTIVE.search(sentence)


# Capitals.

_ABBREVIATION = re.compile(
    r"(?:\b(?:a\.m|p\.m|e\.g|i\.e|etc|vs|approx|no|nos|fig|vol|ed|eds|cf|al|Mr|Mrs|Ms|Mx|Dr|Prof|St|Mt|Jr|Sr|"
    r"Inc|Ltd|Co|dept|est|min|max|hrs?|mins?|tel|ext|ca|approx|Ave|Rd|Blvd|Gen|Sgt|Capt|Rev|Hon|Ph\.D|M\.D)|"
    r"\b[A-Za-z](?:\.[A-Za-z])*|\.\.)\Z",
)
_SENTENCE = re.compile(r"([.?!]) ([a-z][\w'’-]*)")
_BRANDS = re.compile(r"[a-z]{1,2}[A-Z]")
"""Words such as iPhone and eBay keep their small letter."""
_PROPER = re.compile(
    r"\b(?:muslims?|christians?|jews?|jewish|hindus?|buddhists?|sikhs?|catholics?|americans?|asians?|africans?|"
    r"mexicans?|chinese|indians?|germans?|nigerians?|russians?|arabs?|latin[oa]s?|hispanics?|europeans?|"
    r"monday|tuesday|wednesday|thursday|friday|saturday|sunday|january|february|april|june|july|september|"
    r"october|november|december)\b"
)
_SMALL_I = re.compile(
    r"(?<![\w.'’-])i (?:am|have|was|will|do|can|want|need|think|would|should|could)\b|"
    r"\bi['’]m\b"
)


def _lower_case(text: str) -> bool:
    if re.match(r"[a-z]", text) and not _BRANDS.match(text):
        return True
    for match in _SENTENCE.finditer(text):
        mark, word = match.groups()
        abbreviated = mark == "." and _ABBREVIATION.search(text[: match.start()])
        if not abbreviated and not _BRANDS.match(word):
            return True
    return bool(_PROPER.search(text) or _SMALL_I.search(text))


# Tense. Only a time at the start of a sentence, directly followed by its subject and verb.

_SUBJECT = r"(?:my|our|his|her|their|the|an?|one) [\w-]+(?: (?!who|that|which)[\w-]+)?(?:, [^,.?!]+,)?"
_PAST_TIME = r"(?:yesterday|last (?:week|month|year|night|\w+day)|(?:[\w-]+ ){1,3}ago)"
_COMING_TIME = r"(?:tomorrow|next (?:week|month|year|\w+day))"
_WRONG_TENSE = re.compile(
    rf"(?:^|[.?!] ){_PAST_TIME},? {_SUBJECT} (?:is|are|has|asks|wants|tells|says|offers|applies|needs|calls|"
    r"refuses|insists|suggests|will)\b|"
    rf"(?:^|[.?!] ){_COMING_TIME},? {_SUBJECT} (?:was|were|asked|wanted|told|said|offered|applied|refused)\b",
    re.IGNORECASE,
)
_DOUBLED_WORD = re.compile(
    r"\b(the|to|of|and|for|with|my|our|their|from|at|he|she|they|who|was|asked|person) \1\b", re.IGNORECASE
)
_DOUBLED_ARTICLE = re.compile(r"\b(?:[Aa] an?|[Aa]n an?|[Tt]he an?|an? the)\b(?! [.,])")

ENGLISH_SLIPS: Mapping[str, Callable[[str], bool]] = {
    "article": lambda text: bool(_DOUBLED_ARTICLE.search(text)),
    "a_before_vowel": lambda text: _wrong_article(text, "a"),
    "an_before_consonant": lambda text: _wrong_article(text, "an"),
    "space_before_mark": lambda text: bool(re.search(r"\w [,.?!;](?!\w)(?!\.\.)", text)),
    "lower_case_sentence": _lower_case,
    "verb": _wrong_verb,
    "number": lambda text: bool(_FORMS_OF_NUMBER.search(text)),
    "case": lambda text: bool(_CASE_SLIPS.search(text)),
    "tense": lambda text: bool(_WRONG_TENSE.search(text)),
    "doubled_word": lambda text: bool(_DOUBLED_WORD.search(text)),
}
"""Faults caused by filling a slot in English, by name. Each function returns True if a text has the fault."""

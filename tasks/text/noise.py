"""Random noise in the letters of a text, as much of it as another text differs from it."""

from __future__ import annotations

from random import Random

from tasks.text.similarity import ratio

LETTERS = "abcdefghijklmnopqrstuvwxyzäöüß"


def add_noise(text: str, like: str, seed: int) -> str:
    """The text with letters changed, doubled, dropped or added at random, one after the other, until it is as
    unlike itself as `like` is (or each letter had its turn). The same seed gives the same noise."""
    dice = Random(seed)
    target = ratio(text, like)
    pieces = list(text)
    places = [i for i, character in enumerate(text) if character.isalpha()]
    dice.shuffle(places)
    for place in places:
        if ratio(text, "".join(pieces)) <= target:
            break
        pieces[place] = _spoiled(pieces[place], dice)
    return "".join(pieces)


def _spoiled(letter: str, dice: Random) -> str:
    other = dice.choice([x for x in LETTERS if x != letter.lower()])
    other = other.upper() if letter.isupper() and other != "ß" else other
    return dice.choice([other, letter + letter.lower(), "", other + letter.lower()])

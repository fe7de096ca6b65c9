"""A tokenizer of words, for the routes with which lm-evaluation-harness asks a server for its tokens."""

from __future__ import annotations

import re

END = "</s>"
"""Token that ends a text, and that a scored text begins with."""


class WordTokenizer:
    """Tokens are words with the white space before them. They are numbered in the order of their arrival."""

    def __init__(self) -> None:
        self._ids = {END: 0}
        self._tokens = [END]

    def encode(self, text: str) -> list[int]:
        """Return the numbers of the tokens of a text."""
        return [self._id(token) for token in re.findall(r"</s>|\s*[^\s<]+|\s*<|\s+$", text)]

    def decode(self, ids: list[int]) -> str:
        """Return the text of tokens."""
        return "".join(self._tokens[i] for i in ids)

    def words(self, text: str) -> list[str]:
        """Return the tokens of a text."""
        return [self._tokens[i] for i in self.encode(text)]

    def _id(self, token: str) -> int:
        if token not in self._ids:
            self._ids[token] = len(self._tokens)
            self._tokens.append(token)
        return self._ids[token]

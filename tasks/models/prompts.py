"""Prompt files: `data/prompts/<name>.md` with a `# system` and a `# user` part.

A `# turn` part has one rule per line, `pattern => replacement`, that turns a question into its opposite.

This module is their only reader.

`$name` is replaced in one pass, so that a placeholder inside a value is not replaced. Text from outside
(questions, passages, answers) goes through `fence`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import NamedTuple

from schemas.errors import InputError
from schemas.tables import content_hash, file_hash
from tasks.models.protocol import Message


class Turn(NamedTuple):
    """A rule that rewrites a sentence."""

    pattern: re.Pattern[str]
    replacement: str


@dataclass(frozen=True)
class Prompt:
    """A prompt file: its parts, and its hash for the manifest."""

    name: str
    system: str
    user: str
    sha256: str
    turns: tuple[Turn, ...] = ()
    """Rules that turn a question into its opposite, in the order in which they are tried."""

    def fill(self, **values: str) -> tuple[Message, ...]:
        """Return the messages with every `$name` replaced.

        Raises:
            KeyError: If a name has no value.
        """
        messages = []
        if self.system:
            messages.append(Message("system", Template(self.system).substitute(values)))
        messages.append(Message("user", Template(self.user).substitute(values)))
        return tuple(messages)


def read_prompt(data_dir: Path, name: str) -> Prompt:
    """Read `prompts/<name>.md` of the vocabulary folder.

    Raises:
        InputError: If the file does not exist or has no `# user` part.
    """
    path = data_dir / "prompts" / f"{name}.md"
    if not path.is_file():
        raise InputError(f"there is no prompt {name!r}", place=str(path))
    parts = re.split(r"^# (system|user|turn)[ \t]*\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], (p.strip() for p in parts[2::2]), strict=True))
    if "user" not in sections:
        raise InputError(f"the prompt {name!r} has no `# user` part", place=str(path))
    turns = _read_turns(sections.get("turn", ""), path)
    return Prompt(name, sections.get("system", ""), sections["user"], file_hash(path), turns)


def _read_turns(text: str, path: Path) -> tuple[Turn, ...]:
    turns = []
    for line in filter(None, map(str.strip, text.splitlines())):
        pattern, arrow, replacement = line.partition(" => ")
        try:
            turns.append(Turn(re.compile(pattern), replacement))
            turns[-1].pattern.sub(replacement, "")  # reads the replacement
        except (re.error, IndexError) as error:
            raise InputError(f"the rule {line[:60]!r} is not valid: {error}", place=str(path)) from error
        if not arrow:
            raise InputError(f"the line {line[:60]!r} has no ` => `", place=str(path))
    return tuple(turns)


def fence(text: str, label: str = "text") -> str:
    """Return untrusted text between marks that it cannot contain, so that it cannot close its own fence."""
    mark = content_hash([label, text])[:12]
    return f"<{label} id={mark}>\n{text}\n</{label} id={mark}>"

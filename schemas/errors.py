"""Errors shown to the user, with a message, a place, a hint and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class CounterfoilError(Exception):
    """Base of all errors shown to the user.

    Attributes:
        message: Names the problem.
        place: File, line or row of the problem.
        hint: Next step for the user.
    """

    exit_code = 1
    parts: tuple[CounterfoilError, ...] = ()
    """The errors that this one lists."""

    def __init__(self, message: str, *, place: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.message]
        if self.place:
            lines.append(f"  at: {self.place}")
        if self.hint:
            lines.append(f"  next: {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        """Keep place and hint when the error is pickled between processes."""
        return (_rebuild, (type(self), self.message, self.place, self.hint))


def _rebuild(
    kind: type[CounterfoilError], message: str, place: str | None, hint: str | None
) -> CounterfoilError:
    return kind(message, place=place, hint=hint)


def join_steps(*steps: str) -> str:
    """Join next steps to one hint. A step that is a question keeps its mark."""
    joined = ""
    for step in steps:
        mark = "" if not joined else " " if joined[-1] in "?!" else "; "
        joined += mark + step.rstrip(".")
    return joined


class InputError(CounterfoilError):
    """Invalid usage, recipe, template or input file."""

    exit_code = 2


class Problems:
    """Collects errors, so that all of them are reported at once."""

    def __init__(self) -> None:
        self.errors: list[CounterfoilError] = []

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Keep an error for the user that is raised inside, and go on."""
        try:
            yield
        except CounterfoilError as error:
            for one in error.parts or (error,):
                if all(str(one) != str(known) for known in self.errors):
                    self.errors.append(one)

    def refuse(self) -> None:
        """Raise the only error, or one error that lists all of them.

        Raises:
            CounterfoilError: If there are errors: an `InputError` if one of them is, else like the first.
        """
        if not self.errors:
            return
        if len(self.errors) == 1:
            raise self.errors[0]
        listed = [f"{n}. {error}".replace("\n", "\n   ") for n, error in enumerate(self.errors, 1)]
        kind = InputError if any(isinstance(e, InputError) for e in self.errors) else type(self.errors[0])
        combined = kind("\n".join([f"{len(self.errors)} problems:", *listed]))
        combined.parts = tuple(self.errors)
        raise combined


class GateError(CounterfoilError):
    """The result failed validation or the version policy."""

    exit_code = 3


class BudgetError(CounterfoilError):
    """The estimated or actual cost exceeds the budget, or a price is unknown."""

    exit_code = 4


class ModelError(CounterfoilError):
    """A model failed more often than the recipe allows, or its server refuses or cannot be reached."""

    exit_code = 5


class ReviewError(CounterfoilError):
    """More questions must be reviewed before the build continues. All finished steps are kept."""

    exit_code = 7


class PublishError(CounterfoilError):
    """A conflict while publishing, or a published release that could not be verified."""

    exit_code = 6


class MachineError(CounterfoilError):
    """Lack of disk space, memory or permission on this machine."""

    exit_code = 8

"""Errors shown to the user, with a message, a place, a hint and an exit code."""

from __future__ import annotations


class CounterfoilError(Exception):
    """Base of all errors shown to the user.

    Attributes:
        message: Names the problem.
        place: File, line or row of the problem.
        hint: Next step for the user.
    """

    exit_code = 1

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


class InputError(CounterfoilError):
    """Invalid usage, recipe, template or input file."""

    exit_code = 2


class GateError(CounterfoilError):
    """The result failed validation or the version policy."""

    exit_code = 3


class BudgetError(CounterfoilError):
    """The estimated or actual cost exceeds the budget, or a price is unknown."""

    exit_code = 4


class ModelError(CounterfoilError):
    """A model failed more often than the recipe allows."""

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

"""What a person is told when something is wrong: the thing, the place, the next step."""

from __future__ import annotations


class CounterfoilError(Exception):
    """Base of every error that is meant for a person.

    `message` names the thing, `place` where it stands (file, line, row), `hint` the next step.
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
        """Keep place and hint when the error crosses a process boundary."""
        return (_rebuild, (type(self), self.message, self.place, self.hint))


def _rebuild(
    kind: type[CounterfoilError], message: str, place: str | None, hint: str | None
) -> CounterfoilError:
    return kind(message, place=place, hint=hint)


class InputError(CounterfoilError):
    """Bad usage, recipe, template or input file."""

    exit_code = 2


class GateError(CounterfoilError):
    """Validation or version policy refused the result."""

    exit_code = 3


class BudgetError(CounterfoilError):
    """The estimate or the running cost is over the budget, or a price is unknown."""

    exit_code = 4


class ModelError(CounterfoilError):
    """A model failed beyond what the recipe allows."""

    exit_code = 5


class ReviewError(CounterfoilError):
    """People must look at more questions before the build goes on. Nothing is wrong, and nothing is lost."""

    exit_code = 7


class PublishError(CounterfoilError):
    """A publish conflict, or what was published could not be verified."""

    exit_code = 6


class MachineError(CounterfoilError):
    """The machine refused: no room, no memory, no permission."""

    exit_code = 8

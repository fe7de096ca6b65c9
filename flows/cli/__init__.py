"""`counterfoil COMMAND …`: results go to stdout, everything else to stderr. See `counterfoil --help`.

Commands import their options and functions when they run, so that `--help` and `plan` start quickly.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from flows.commands import COMMANDS, Command, load
from schemas.errors import CounterfoilError, ReviewError


class OptionsCommand(click.Command):
    """A command whose parameters are made from its options when they are needed."""

    def __init__(self, command: Command) -> None:
        super().__init__(command.name, help=command.summary, short_help=command.summary)
        self.command = command

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters, made on the first call."""
        if not self.params:
            from flows.cli.options import click_parameters

            self.params = click_parameters(self.command)
        return super().get_params(ctx)

    def invoke(self, ctx: click.Context) -> None:
        """Run the command and print its result."""
        from flows.cli.printing import print_json, show_progress
        from flows.options import read_options

        command, values = self.command, dict(ctx.params)
        as_json = values.pop("as_json", False)
        if command.progress:
            show_progress()
        options = read_options(command.model, values)
        if not command.show:
            command.function(options, as_json)
            return
        result = command.function(options)
        print_json(result) if as_json else load(f"flows.cli.printing:{command.show}")(result)
        if command.check:
            load(command.check)(options, result)


@click.group(
    commands=[OptionsCommand(command) for command in COMMANDS.values()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="counterfoil", message="%(prog)s %(version)s")
def cli() -> None:
    """Build, clean and publish benchmarks of social bias in language models.

    Relabel the hard negatives of retrieval training sets.
    """


def main() -> None:
    """Run the command line. A `CounterfoilError` is printed without a traceback and sets the exit code."""
    try:
        cli.main(standalone_mode=False)
    except CounterfoilError as error:
        stop_with(error)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("\ninterrupted: run the same command again to resume", err=True)
        sys.exit(130)
    except Exception as error:
        from flows.cli.errors import machine_error

        if (refused := machine_error(error)) is None:
            raise
        stop_with(refused)


def stop_with(error: CounterfoilError) -> Any:
    """Print an error and exit with its code."""
    waiting = isinstance(error, ReviewError)
    kind = click.style("waiting: ", fg="yellow") if waiting else click.style("error: ", fg="red", bold=True)
    click.echo(kind + str(error), err=True)
    sys.exit(error.exit_code)

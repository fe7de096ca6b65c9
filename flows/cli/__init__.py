"""`counterfoil COMMAND …`: results go to stdout, everything else to stderr. See `counterfoil --help`.

Commands import their options and functions when they run, so that `--help` and `plan` start quickly.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Any

import click

from flows.commands import COMMANDS, Command, load
from flows.processes import StopSignals, kill_descendants, stop_on_signals
from schemas.errors import CounterfoilError, ReviewError
from tasks.text.printable import strip_controls

CLOSED_PIPE = 128 + 13
"""Exit code if the reader of the output ended first: that of a shell after SIGPIPE."""
INTERRUPTED = "\ninterrupted: run the same command again to resume"


class OptionsCommand(click.Command):
    """A command that creates its parameters from its options on demand."""

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
        """Run the command. If the reader of the output ends first (`… | head`), end without a message."""
        try:
            self.run_checked(ctx)
        except BrokenPipeError:  # click would end with code 1
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(CLOSED_PIPE)

    def run_checked(self, ctx: click.Context) -> None:
        """Check the machine, run the command and print its result."""
        from flows.machine import check_current_folder, check_machine, check_output
        from flows.workspace import open_workspace

        check_output()
        check_current_folder()
        check_machine(self.command.name, open_workspace().home)
        from flows.cli.printing import print_json
        from flows.cli.progress import show_progress
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
        sys.stdout.flush()  # an error of the output is reported here, and not when Python ends
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
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # set by `flows` while the program loads
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with stop_on_signals() as stopped:
        try:
            cli.main(standalone_mode=False)
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            if stopped.first is None:
                _exit_for(error)
        except BaseException:  # Prefect has its own exception for a signal
            if stopped.first is None:
                raise
        if stopped.first is not None:
            _exit_stopped(stopped)


def _exit_for(error: BaseException) -> None:
    """Print an error and exit with its code. An error without an explanation is raised."""
    if isinstance(error, CounterfoilError):
        stop_with(error)
    if isinstance(error, click.exceptions.Exit):
        sys.exit(error.exit_code)
    if isinstance(error, click.ClickException):
        error.show()
        sys.exit(2)
    if isinstance(error, (KeyboardInterrupt, click.exceptions.Abort)) or _is_caused_by_interrupt(error):
        click.echo(INTERRUPTED, err=True)
        sys.exit(130)
    if not isinstance(error, Exception):
        raise error
    from flows.cli.errors import machine_error

    if (refused := machine_error(error)) is None:
        raise error
    stop_with(refused)


def _is_caused_by_interrupt(error: BaseException) -> bool:
    """Return whether Ctrl-C came while a library defined a class and turned it into an error of its own."""
    return isinstance(error.__cause__ or error.__context__, KeyboardInterrupt)


def _exit_stopped(stopped: StopSignals) -> None:
    with suppress(OSError):
        click.echo(INTERRUPTED, err=True)
    kill_descendants(wait_s=1.0)
    sys.exit(stopped.exit_code)


def stop_with(error: CounterfoilError) -> Any:
    """Print an error and exit with its code."""
    waiting = isinstance(error, ReviewError)
    kind = click.style("waiting: ", fg="yellow") if waiting else click.style("error: ", fg="red", bold=True)
    click.echo(kind + strip_controls(str(error)), err=True)
    sys.exit(error.exit_code)

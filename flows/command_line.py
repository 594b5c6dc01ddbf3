"""The command line: gathers the commands of :mod:`flows.commands`. `docs/command-line.md` is its reference."""

import atexit
import gc
import os
import select
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated

import typer

from flows.commands import building, datasets, deploying, fitting, looking, models, sources, training
from flows.commands.exit_codes import (
    INTERRUPTED,
    NO_READER,
    STOPPED,
    WRONG_USE,
    complain,
    end_workers,
    ended_by_a_second_ctrl_c,
    exit_code_of,
)
from flows.errors import what_is_wrong
from flows.progress import alive, is_first_process

_UsageError: type[typer.BadParameter] = typer.BadParameter.__bases__[0]  # click's, wherever typer keeps it

app = typer.Typer(
    help="Dense face alignment training data: 3DMM fits, UV atlases and position maps in Zarr shards.\n\n"
    "\b\nfacefoundry build 300wlp-posmaps\n"
    "facefoundry train prnet --data datasets/300wlp-posmaps\n"
    "facefoundry doctor",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong use, 3 too many bad samples, 4 someone else is building, "
    "130 stopped by Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for _part in (building, sources, fitting, datasets, looking, models, training, deploying):
    app.add_typer(_part.app)


def _tell_version(wanted: bool) -> bool:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"facefoundry {version('facefoundry')}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """What stands before a command."""


def main() -> None:
    """Run the command line; a failure is one line on standard error and an exit code."""
    atexit.register(gc.freeze)  # the system takes all back: to look for what is unused first takes a third of a second
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal may not know every sign, or a file's name be no text at all
            stream.reconfigure(errors="backslashreplace")
    try:
        with _ended_by_ctrl_c(sys.argv[1:]), _alive(sys.argv[1:]):
            code = app(prog_name="facefoundry", standalone_mode=False)
        if code == INTERRUPTED:  # what newer typers make of Ctrl-C; older ones let KeyboardInterrupt through
            raise KeyboardInterrupt
        if sys.stdout is not None:  # None: closed by the shell (>&-)
            sys.stdout.flush()
    except SystemExit as ended:  # of completion; and newer typers end so when nobody reads any more
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
        code = _code_of_broken_pipe(ended.__context__)
    except _UsageError as error:
        said = getattr(error.__cause__, "errors", None)
        if said is not None:  # newer typers let pydantic look at values, and hand on what it says
            error.message = what_is_wrong(said(), name="", as_typed=True)
        error.show()
        code = WRONG_USE
    except (KeyboardInterrupt, typer.Abort):
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # for threads that are still at work, nobody has to wait
        end_workers()
        code = complain(STOPPED, INTERRUPTED)
    except BrokenPipeError as error:
        code = _code_of_broken_pipe(error)
    except Exception as error:
        code = exit_code_of(error)
        _drop_what_cannot_be_written()
    sys.exit(code if isinstance(code, int) else 0)


def _ended_by_ctrl_c(words: Sequence[str]) -> AbstractContextManager[None]:
    """The first Ctrl-C is heard as everywhere, and a second one at once; browse's server hears both, and repeats them."""
    return nullcontext() if words[:1] == ["browse"] else ended_by_a_second_ctrl_c()


def _alive(words: Sequence[str]) -> AbstractContextManager[None]:
    """Signs of life of the command that these words ask for; under --json, and while it serves, there are none."""
    quiet = "--json" in words or words[:1] in ([], ["browse"]) or not is_first_process()
    return nullcontext() if quiet else alive(" ".join(words[: 2 if words[0] == "model" else 1]))


def _drop_what_cannot_be_written() -> None:
    """Standard output on a full disk, say: Python would try once more at its end, and end with 120."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _write_no_more()


def _code_of_broken_pipe(error: BrokenPipeError) -> int:
    """Silent when it is standard output that nobody reads any more, as in ``| head``; a failure when another pipe broke."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    if not output.poll(0):
        return exit_code_of(error)
    _write_no_more()
    return NO_READER


def _write_no_more() -> None:
    """What is still to be flushed at the end goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

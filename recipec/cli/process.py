"""Start and end of the process of a command: signals, garbage and exit codes."""

from __future__ import annotations

import atexit
import errno
import gc
import os
import signal
import sys
import traceback

from recipec.cli.commands import app
from recipec.cli.input_output import show
from recipec.diagnostics.model import RecipeError
from recipec.host.interrupts import Interrupted

READING = ("validate", "plan", "compile", "ls", "show", "explain", "schema", "diff", "doctor", "--help", "-h")
"""Commands that print and change nothing."""


def _end_with_its_reader() -> None:
    """End a command that only prints by SIGPIPE, as in `recipec ls | head`: the 1 of findings would mislead."""
    if os.name == "posix" and sys.argv[1:2] and sys.argv[1] in READING:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)


def main() -> None:
    """Run the command line; an internal error writes its traceback to a file."""
    if sys.argv[1:2] == ["validate"]:  # most of its time goes into starting and ending
        os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"  # code of other packages, in search of which all are read
        gc.set_threshold(100_000)  # what is imported stays: there is nothing to collect meanwhile
    atexit.register(gc.freeze)  # nor in the end, where it takes a second after torch was imported
    try:
        app()
    except SystemExit as ended:
        if isinstance(cause := getattr(ended.__context__, "__cause__", None), Interrupted):
            sys.exit(cause.exit_code)  # typer knows only that of Ctrl-C
        if isinstance(ended.__context__, BrokenPipeError):
            _end_with_its_reader()
        raise
    except RecipeError as error:
        show(error.diagnostics, {}, valid=False)
        sys.exit(1)
    except BrokenPipeError:  # the reader of a pipe has closed it
        _end_with_its_reader()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes the rest at exit
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - anything that gets here is a bug of recipec
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO}:
            print(f"cannot write: {error.strerror}", file=sys.stderr)
            sys.exit(1)
        from recipec.diagnostics.crash_report import note_crash

        print(
            f"internal error: a bug of recipec, not of your recipe; {note_crash(traceback.format_exc())}",
            file=sys.stderr,
        )
        sys.exit(3)

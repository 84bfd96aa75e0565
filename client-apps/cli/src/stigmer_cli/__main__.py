"""The outer boundary of the `stigmer` command: turns every way to end into an exit code and at most a line.

A defect leaves its traceback in a crash log; `--debug` or STIGMER_DEBUG shows it.
"""

import gc
import os
import sys
from collections.abc import Sequence

import click
from click.exceptions import NoSuchCommand, NoSuchOption

from stigmer_cli.cli import DEBUG_VARIABLE, root
from stigmer_cli.errors import Interrupted, OutputFailed, StigmerError, UsageError
from stigmer_cli.output import forget_stdout, forget_unwritable_streams, open_streams, print_error, print_note

INTERRUPTED = 130
"""128 and the number of SIGINT, as shells count."""
DEFECT = 1
OBJECTS_A_COLLECTION = 50_000
"""So many new objects Python's collector waits for. With its own 700 it looks some 60 times through what
imports make, of which nothing is garbage: a sixth of what `chat` imports (0.31 s of processor time, now 0.25;
2026-11)."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and ends the process with its exit code."""
    gc.set_threshold(OBJECTS_A_COLLECTION)
    exit_code = run(sys.argv[1:] if arguments is None else arguments)
    forget_unwritable_streams()
    sys.exit(exit_code)


def run(arguments: Sequence[str]) -> int:
    """Runs the command line; answers its exit code."""
    open_streams()
    try:
        # Where a reader of stdout goes away, click itself ends the process without a word.
        answer: object = root.main(list(arguments), prog_name="stigmer", standalone_mode=False)
        return answer if isinstance(answer, int) else 0
    except StigmerError as error:
        if isinstance(error, OutputFailed):
            forget_stdout()
        print_error(error, "" if isinstance(error, Interrupted) else "error:")
        return error.exit_code
    except click.ClickException as error:
        print_error(_explain(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        forget_stdout()
        return DEFECT
    except UnicodeEncodeError as error:
        if (invalid := _invalid_argument(arguments)) is not None:
            print_error(invalid)
            return invalid.exit_code
        _report_defect(error, arguments)
        return DEFECT
    except Exception as error:
        _report_defect(error, arguments)
        return DEFECT


def _explain(error: click.ClickException) -> UsageError:
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "stigmer"
    match error:
        case NoSuchCommand() if context and isinstance(context.command, click.Group):
            known = context.command.list_commands(context)
            return _unknown("command", error.command_name, known, path)
        case NoSuchOption():
            known = [name for name in error.possibilities or [] if name.startswith("--")]
            return _unknown("option", error.option_name, known, path)
        case _:
            message = error.format_message()
            return UsageError(message[:1].lower() + message[1:].rstrip("."), f"run `{path} --help`")


def _unknown(kind: str, name: str, known: Sequence[str], path: str) -> UsageError:
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"run `{path} --help`"
    return UsageError(f"no such {kind} {name!r}", hint)


def _invalid_argument(arguments: Sequence[str]) -> UsageError | None:
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            return UsageError(
                f"the argument {argument!r} is not valid UTF-8",
                "write it in UTF-8, the encoding of all texts",
            )
    return None


def _report_defect(error: Exception, arguments: Sequence[str]) -> None:
    import traceback

    from stigmer_cli.crash_log import write_crash_log

    if os.environ.get(DEBUG_VARIABLE) or "--debug" in arguments:
        print_note("".join(traceback.format_exception(error)))
    path = write_crash_log(error)
    summary = " ".join(str(error).split())[:200]
    hint = f"report this with the file {path}" if path else f"set {DEBUG_VARIABLE}=1 to see where"
    print_error(StigmerError(f"a defect in stigmer: {type(error).__name__}: {summary}", hint))


if __name__ == "__main__":
    main()

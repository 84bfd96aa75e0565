"""The outer boundary of the `stigmer` command: turns every way to end into an exit code and at most a line.

A defect leaves its traceback in a crash log; `--debug` or STIGMER_DEBUG shows it.
"""

import os
import sys
from collections.abc import Sequence

import click
from click.exceptions import NoSuchCommand, NoSuchOption

from stigmer_cli.cli import DEBUG_VARIABLE, root
from stigmer_cli.errors import StigmerError, UsageError
from stigmer_cli.output import print_error, print_note

INTERRUPTED = 130
"""128 and the number of SIGINT, as shells count."""
DEFECT = 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and ends the process with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Runs the command line; answers its exit code."""
    try:
        # Where a reader of stdout goes away, click itself ends the process without a word.
        answer: object = root.main(list(arguments), prog_name="stigmer", standalone_mode=False)
        return answer if isinstance(answer, int) else 0
    except StigmerError as error:
        print_error(error)
        return error.exit_code
    except click.ClickException as error:
        print_error(_explain(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
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


def _forget_stdout() -> None:
    """What is left in the buffer must not fail again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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

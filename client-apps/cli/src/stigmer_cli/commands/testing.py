"""`stigmer test`: runs tests of agents on the stack, as executions like any others, and tells how it went."""

import os
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stigmer_cli.commands.completions import complete_files
from stigmer_cli.commands.test_making import add
from stigmer_cli.errors import UsageError

if TYPE_CHECKING:
    from stigmer_cli.agent_tests.report import Outcome
    from stigmer_cli.commands.test_runs import GivenTest, TestWays
    from stigmer_cli.config import Configuration, Connection

MAX_JOBS: Final = 32


class _RunsByDefault(click.Group):
    """`stigmer test PATH` means `stigmer test run PATH`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Puts the verb in where there is none."""
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group("test", cls=_RunsByDefault, epilog="Example: stigmer test ./report-writer --junit results.xml")
def test() -> None:
    """Run tests of agents, or make one of an execution.

    `stigmer test PATH` is short for `stigmer test run PATH`.
    """


@test.command("run", epilog="Example: stigmer test run ./report-writer --junit results.xml")
@click.argument("paths", nargs=-1, metavar="[FILE|DIR]...", shell_complete=complete_files)
@click.option("--jobs", "-j", type=click.IntRange(1, MAX_JOBS), default=4, show_default=True, help="At once.")
@click.option("--model", metavar="PROVIDER:NAME", help="Use this model, whatever the tests say.")
@click.option(
    "--junit", metavar="FILE", help="Write the results as JUnit XML.", shell_complete=complete_files
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.option("--strict", is_flag=True, help="A test that is skipped fails.")
@click.option(
    "--baseline",
    metavar="FILE",
    help="Hold the results against those of FILE: only what has become worse fails.",
    shell_complete=complete_files,
)
@click.option("--update", is_flag=True, help="Write the baseline anew, and what judges say into cassettes.")
@click.option("--private", is_flag=True, help="Use a stack of the tests' own, also where one runs.")
@click.option(
    "--changed",
    is_flag=True,
    help="Do again what agents have done: FILE and DIR are manifests, or names of applied agents.",
)
@click.option(
    "--newest",
    type=click.IntRange(1, 100),
    default=5,
    show_default=True,
    help="With --changed: so many executions of each agent.",
)
def run_tests(
    paths: Sequence[str],
    jobs: int,
    model: str | None,
    junit: str | None,
    as_json: bool,
    strict: bool,
    baseline: str | None,
    update: bool,
    private: bool,
    changed: bool,
    newest: int,
) -> None:
    """Run tests of agents: files that end in .test.yaml, in the folders given or in this one.

    Each is an execution in a workspace of its own, and what it must come to. They use the stack that runs;
    where none does, one of their own, which ends with them.

    With --changed the newest executions of an agent are done again from their beginning, with its manifest of
    now or with --model, and it is shown where they part from what they were. One that completed and does not
    any more fails; with --strict, one that parts does. Exit code 1: a test failed; 2: a file is none,
    or there is none; 3: there is no stack, and none can be started.
    """
    from stigmer_cli.agent_tests.baseline import compare, read_baseline, write_baseline
    from stigmer_cli.agent_tests.report import print_outcome, write_reports
    from stigmer_cli.agent_tests.test_file import read_test
    from stigmer_cli.commands.test_runs import GivenTest, TestWays
    from stigmer_cli.config import load_configuration
    from stigmer_cli.output import print_json, print_note

    if changed:
        if junit or baseline or update or private:
            raise UsageError(
                "--changed is of executions that were, and takes no --junit, --baseline, --update, --private"
            )
        _repeat(paths or (".",), model, newest, jobs, as_json=as_json, strict=strict)
        return
    tests = [GivenTest(path, read_test(path)) for path in find_tests(paths)]
    _check_folder(junit)
    _check_folder(baseline)
    before = read_baseline(baseline, may_be_missing=update)
    with _stack(load_configuration(os.environ), private=private) as (configuration, connection, is_private):
        ways = TestWays(model, records_judges=update, keeps_executions=not is_private)
        outcomes = list["Outcome"]()
        for outcome in _run_all(tests, ways, jobs, connection, configuration):
            compare(outcome, before)
            outcomes.append(outcome)
            print_outcome(outcome, strict=strict)
    from stigmer_cli.agent_tests.report import results_json

    if as_json:
        print_json(results_json(outcomes))
    write_reports(outcomes, junit, os.environ.get("GITHUB_STEP_SUMMARY"), strict=strict)
    if baseline is not None and update:
        write_baseline(baseline, outcomes, before)
        print_note(f"wrote the baseline {baseline!r}")
    elif any(not each.is_good(strict=strict) for each in outcomes):
        raise click.exceptions.Exit(1)


def _repeat(
    agents: Sequence[str], model: str | None, newest: int, jobs: int, *, as_json: bool, strict: bool
) -> None:
    from stigmer_cli.commands.connecting import find_connection
    from stigmer_cli.commands.test_changed import repeat_executions

    connection = find_connection()
    if not repeat_executions(agents, model, newest, jobs, connection, as_json=as_json, strict=strict):
        raise click.exceptions.Exit(1)


def _run_all(
    tests: "Sequence[GivenTest]",
    ways: "TestWays",
    jobs: int,
    connection: "Connection",
    configuration: "Configuration",
) -> "Generator[Outcome]":
    from stigmer_cli.commands.test_runs import run_test

    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(run_test, given, ways, connection, configuration) for given in tests]
        try:
            for each in running:
                yield each.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _stack(
    configuration: "Configuration", *, private: bool
) -> "Generator[tuple[Configuration, Connection, bool]]":
    """The stack that the tests use, its settings, and whether it is theirs alone."""
    from stigmer_cli.commands.connecting import connect
    from stigmer_cli.output import print_note
    from stigmer_cli.stack import find_running

    if not private and find_running(configuration) is not None:
        yield configuration, connect(configuration), False
        return
    from stigmer_cli.stack.private_stack import private_stack

    if not private:
        print_note("no stack runs: the tests get one of their own, which ends with them")
    with private_stack(configuration, os.environ, report=print_note) as (own, connection):
        yield own, connection, True


def find_tests(paths: Sequence[str]) -> list[Path]:
    """The test files that are meant, sorted, each once.

    Raises:
        UsageError: one is not there, or there are none.
    """
    from stigmer_cli.agent_tests.test_file import ENDING

    found = dict[Path, None]()
    for each in map(Path, paths or (".",)):
        if each.is_dir():
            found |= dict.fromkeys(sorted(path for path in each.rglob(f"*{ENDING}") if path.is_file()))
        elif each.is_file():
            found[each] = None
        else:
            raise UsageError(
                f"there is no test {str(each)!r}", f"name a file that ends in {ENDING}, or a folder"
            )
    if not found:
        raise UsageError(
            f"there are no files that end in {ENDING}", "write one, or let `stigmer test add` make one"
        )
    return list(found)


def _check_folder(file: str | None) -> None:
    if file is not None and not Path(file).absolute().parent.is_dir():
        raise UsageError(f"could not write {file!r}: its folder does not exist")


test.add_command(add)

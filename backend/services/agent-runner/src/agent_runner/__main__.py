"""The command `agent-runner`: without arguments the worker, with `health` the container's health check.

`spare` is the worker, too, once it is told so: it makes everything ready, then waits for a line on its
standard input before it takes any work. Where that ends first, so does the process.
"""

import os
import sys
from typing import Final

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
USAGE: Final = "usage: agent-runner [spare | health | --version]"


def main() -> int:
    """Run the worker or the probe; returns the exit code."""
    match sys.argv[1:]:
        case []:
            return _run_worker()
        case ["spare"]:
            return _run_worker(is_spare=True)
        case ["health"]:
            return _probe()
        case ["--version"]:
            from importlib.metadata import version

            print(f"agent-runner {version('stigmer-agent-runner')}")
            return 0
        case ["-h" | "--help"]:
            print(USAGE)
            return 0
        case _:
            print(f"error: unknown arguments {' '.join(sys.argv[1:])!r}\n{USAGE}", file=sys.stderr)
            return EXIT_USAGE


def _probe() -> int:
    from agent_runner.errors import SettingsError
    from agent_runner.health import probe_health
    from agent_runner.settings import read_health_address

    try:
        host, port = read_health_address(os.environ)
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    return probe_health(host, port)


def _run_worker(*, is_spare: bool = False) -> int:
    from agent_runner.pid_one import EXIT_RENEW, leave_first_process
    from stigmer_contract.handed_environment import EnvironmentLost, receive_environment
    from stigmer_contract.process_protection import protect_process

    # Before all that takes time: until then the process can be looked into by commands of the runner before.
    protect_process()
    try:
        receive_environment(os.environ)
    except EnvironmentLost as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    is_contained = leave_first_process()

    import gc

    # What is imported stays: looking through it meanwhile took 17 % of a start's processor time (2026-11).
    # `run_worker` turns it on again.
    gc.disable()

    import asyncio

    from agent_runner.errors import CommandLineIncompatible, SettingsError
    from agent_runner.leg_parts import RUNNER_VERSION
    from agent_runner.logs import configure_logging
    from agent_runner.secrets_in_use import SecretsInUse
    from agent_runner.settings import load_settings
    from agent_runner.worker import run_worker
    from stigmer_contract.log_lines import print_failure
    from stigmer_contract.versions import is_compatible
    from stigmer_isolation.command_environment import command_environment

    try:
        settings = load_settings(os.environ)
        if settings.cli_version is not None and not is_compatible(settings.cli_version, RUNNER_VERSION):
            raise CommandLineIncompatible(RUNNER_VERSION, settings.cli_version)
    except (SettingsError, CommandLineIncompatible) as error:
        print_failure(str(error), os.environ, sys.stderr, "agent_runner")
        return EXIT_USAGE
    secrets = SecretsInUse(settings)
    configure_logging(settings.log_level, settings.log_format, secrets.mask)
    try:
        is_to_be_renewed = asyncio.run(
            run_worker(
                settings,
                command_environment(os.environ),
                secrets,
                is_spare=is_spare,
                is_contained=is_contained,
            )
        )
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except SettingsError as error:
        print_failure(str(error), os.environ, sys.stderr, "agent_runner")
        return EXIT_USAGE
    except OSError as error:
        print_failure(f"could not start the runner: {error}", os.environ, sys.stderr, "agent_runner")
        return EXIT_FAILED
    return EXIT_RENEW if is_to_be_renewed else 0


if __name__ == "__main__":
    sys.exit(main())

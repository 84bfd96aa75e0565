"""`stigmer console`: the page on which to watch, answer and understand."""

import os
import sys
from pathlib import Path
from typing import Final

import click

from stigmer_cli.commands.completions import complete_executions

_REDIRECT: Final = """\
<!doctype html>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={address}">
<title>Stigmer</title>
<a href="{address}">Open the console</a>
"""


@click.command(epilog="Example: stigmer console --no-open")
@click.argument("given", metavar="[EXECUTION]", required=False, shell_complete=complete_executions)
@click.option("--no-open", is_flag=True, help="Only print the link.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; opens nothing.")
def console(given: str | None, no_open: bool, as_json: bool) -> None:
    """Open the console in a browser, signed in.

    The link works once, within two minutes, for whoever has it. EXECUTION opens one execution: it is
    an id, its last characters, as lists show them, or any beginning that fits one only.
    """
    from urllib.parse import quote

    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.references import find_execution_id
    from stigmer_cli.config import load_configuration, prepare_home
    from stigmer_cli.errors import ConsoleNotBuilt
    from stigmer_cli.output import print_json, print_line, print_note

    with open_client() as client:
        execution_id = None if given is None else find_execution_id(client, given, last=False)
        link = client.create_console_link()
        endpoint = client.transport.endpoint.rstrip("/")
    if not link.has_page:
        raise ConsoleNotBuilt(endpoint)
    view = "" if execution_id is None else f"executions/{quote(execution_id, safe='')}"
    address = f"{endpoint}{link.path}{view}#sign-in={link.secret}"
    if as_json:
        print_json({"address": address, "expires_at": link.expires_at.isoformat()})
        return
    print_line(address)
    if no_open or not has_browser():
        print_note("open it within two minutes; it signs in once")
        return
    configuration = load_configuration(os.environ)
    prepare_home(configuration)
    if not _open(address, configuration.run_directory):
        print_note("no browser could be started; open the link yourself within two minutes")


def has_browser() -> bool:
    """Whether a browser would have a screen of its own to open on."""
    if os.environ.get("BROWSER"):
        return True
    if os.environ.get("SSH_CONNECTION"):
        return False
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open(address: str, folder: Path) -> bool:
    """Open an address by a file that only this user can read: everybody sees a program's arguments."""
    import webbrowser
    from html import escape

    from stigmer_cli.config import replace_file

    file = folder / "console.html"
    replace_file(file, _REDIRECT.format(address=escape(address)))
    return webbrowser.open(file.as_uri())

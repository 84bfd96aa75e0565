"""`stigmer console`: prints a link that works once, and opens it in a browser that is there."""

import json
import re
import stat
from pathlib import Path

import httpx

from cli_harness import Command, Server
from stigmer_server.console_files import PAGE_DIRECTORY

IS_BUILT = (PAGE_DIRECTORY / "index.html").is_file()


def test_the_link_signs_in_once(command: Command, server: Server) -> None:
    done = command.run("console", "--no-open")

    address = f"http://127.0.0.1:{server.port}"
    if not IS_BUILT:
        assert (done.exit_code, done.stdout) == (3, "")
        assert done.stderr.startswith(f"error: the server at {address} has no console")
        assert "hint: run `make web` there" in done.stderr
        return
    assert done.exit_code == 0
    found = re.fullmatch(rf"{address}/console/#sign-in=([\w-]{{43}})\n", done.stdout)
    assert found
    statuses = [
        httpx.post(
            f"{address}/v1/console/sessions",
            json={"secret": found[1]},
            headers={"Origin": address},
            trust_env=False,
            timeout=60,
        ).status_code
        for _ in range(2)
    ]
    assert statuses == [201, 401]


def test_the_browser_is_given_a_file_and_its_arguments_tell_nothing(command: Command, tmp_path: Path) -> None:
    said = tmp_path / "said"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$*" > {said}\n', encoding="utf-8")
    browser.chmod(0o755)
    with_browser = Command(command.environment | {"BROWSER": f"{browser} %s"}, command.folder)

    execution_id = f"exe_{'0' * 26}"
    done = with_browser.run("console", execution_id)

    if not IS_BUILT:
        assert done.exit_code == 3
        return
    address = done.stdout.strip()
    file = tmp_path / "home" / "run" / "console.html"
    assert f"/console/executions/{execution_id}#sign-in=" in address
    assert said.read_text(encoding="utf-8") == f"{file.as_uri()}\n"
    assert f'content="0; url={address}"' in file.read_text(encoding="utf-8")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_json_opens_nothing(command: Command, tmp_path: Path) -> None:
    done = command.run("console", "--json")

    if IS_BUILT:
        assert set(json.loads(done.stdout)) == {"address", "expires_at"}
    assert not (tmp_path / "home" / "run" / "console.html").exists()

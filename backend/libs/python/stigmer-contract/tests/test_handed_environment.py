"""An environment that is handed over arrives as it was, or not at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stigmer_contract.handed_environment import (
    SOCKET_VARIABLE,
    EnvironmentLost,
    HandedEnvironment,
    receive_environment,
)

LOOK = """
import json, os, sys
from stigmer_contract.handed_environment import receive_environment
before = dict(os.environ)
receive_environment(os.environ)
print(json.dumps([before, dict(os.environ)]))
"""


def test_a_program_gets_the_rest_of_its_environment_by_the_socket() -> None:
    given = {
        "PATH": os.environ["PATH"],
        "KEY": "sk-1",
        "EMPTY": "",
        "LINES": "a\nb=c\n",
        "LATIN": os.fsdecode(b"caf\xe9"),
        "LONG": "x" * 1_000_000,  # more than a socket holds
    }
    handed = HandedEnvironment(given)
    with handed.while_starting():
        process = subprocess.Popen(
            [sys.executable, "-c", LOOK],
            env=handed.shown,
            pass_fds=[handed.descriptor],
            stdout=subprocess.PIPE,
            text=True,
        )
    with handed.sender as sender:
        sender.sendall(handed.content)
    output, _ = process.communicate(timeout=120)
    before, after = json.loads(output)
    added = {"LC_CTYPE"}  # Python's own, where no locale is set
    assert {name: text for name, text in before.items() if name not in added} == {
        "PATH": given["PATH"],
        SOCKET_VARIABLE: str(handed.descriptor),
    }
    assert {name: text for name, text in after.items() if name not in added} == given


@pytest.mark.parametrize("cut", [0, 1, -1, -2])
def test_an_environment_that_came_in_part_is_an_error(cut: int) -> None:
    handed = HandedEnvironment({"KEY": "sk-1", "OTHER": "two"})
    inherited = os.dup(handed.descriptor)
    with handed.while_starting():
        pass
    with handed.sender as sender:
        sender.sendall(handed.content[:cut])
    environ = {SOCKET_VARIABLE: str(inherited)}
    with pytest.raises(EnvironmentLost):
        receive_environment(environ)
    assert environ == {}


@pytest.mark.parametrize("text", ["1000000", "x", "-1"])
def test_a_descriptor_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(EnvironmentLost):
        receive_environment({SOCKET_VARIABLE: text})


def test_what_was_not_handed_over_changes_nothing(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    receive_environment(environ)
    assert environ == {"HOME": str(tmp_path)}


def test_other_processes_cannot_open_what_is_handed_over() -> None:
    handed = HandedEnvironment({"KEY": "sk-1"})
    with handed.sender, handed.while_starting(), pytest.raises(OSError):
        Path(f"/proc/self/fd/{handed.descriptor}").read_bytes()

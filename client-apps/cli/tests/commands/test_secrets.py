"""`stigmer secrets` against a real server."""

import json
import re

from cli_harness import Command, Server

VALUE = "canary-of-the-cli-77"


def test_a_secret_comes_from_standard_input_and_is_listed_without_its_value(command: Command) -> None:
    created = command.run("secrets", "set", "CLI_TOKEN", text=f"{VALUE}\n")
    assert (created.exit_code, created.stdout, created.stderr) == (0, "", "created the secret CLI_TOKEN\n")
    replaced = command.run("secrets", "set", "CLI_TOKEN", "--json", text=VALUE)
    assert set(json.loads(replaced.stdout)) == {"name", "created_at", "updated_at", "owner", "shared_with"}

    listed = command.run("secrets", "list")
    assert re.search(r"^NAME +CREATED +UPDATED\n(.*\n)*CLI_TOKEN +\d+ s ago +\d+ s ago\n", listed.stdout)
    listed_json = command.run("secrets", "list", "--json")
    assert "CLI_TOKEN" in [secret["name"] for secret in json.loads(listed_json.stdout)]
    for result in (created, replaced, listed, listed_json):
        assert VALUE not in result.stdout + result.stderr

    refused = command.run("secrets", "delete", "CLI_TOKEN")
    assert (refused.exit_code, refused.stderr.splitlines()[-1]) == (2, "hint: pass --yes")
    assert command.run("secrets", "delete", "CLI_TOKEN", "--yes").stderr == "deleted the secret CLI_TOKEN\n"
    gone = command.run("secrets", "delete", "CLI_TOKEN", "--yes")
    assert (gone.exit_code, "there is no secret 'CLI_TOKEN'" in gone.stderr) == (1, True)


def test_a_secret_that_is_typed_is_not_shown(command: Command, server: Server) -> None:
    terminal = command.start_in_terminal("secrets", "set", "TYPED_TOKEN")
    terminal.wait_for("Value of TYPED_TOKEN:")
    terminal.type(f"{VALUE}\n")
    terminal.wait_for("Repeat for confirmation:")
    terminal.type(f"{VALUE}\n")
    assert terminal.finish() == 0
    assert VALUE not in terminal.raw

    execution = command.run("run", "-", "Hello", "--detach", text=MANIFEST)
    leg = server.take_execution(execution.stdout.strip())
    assert {name: value.get_secret_value() for name, value in leg.grant.secrets.items()} == {
        "TYPED_TOKEN": VALUE
    }


MANIFEST = """\
apiVersion: agentic.stigmer.ai/v1
kind: Agent
metadata: {name: with-secret}
spec:
  instructions: Greet.
  model: openai:gpt-5
  tools: [shell]
  env: {TOKEN: {secret: TYPED_TOKEN}}
"""


def test_a_value_is_never_an_argument(command: Command) -> None:
    result = command.run("secrets", "set", "NAME", VALUE, text="")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: got unexpected extra argument")
    # `NAME=VALUE`, as other tools take it
    result = command.run("secrets", "set", f"NAME={VALUE}", text="")
    assert result.exit_code == 2
    assert "never an argument" in result.stderr
    assert VALUE not in result.stderr


def test_what_cannot_be_kept_is_refused_with_the_reason(command: Command) -> None:
    for text, reason in (
        ("short\n", "a secret has at least 8 characters: a shorter one could not be masked"),
        ("x" * 32_769, "a secret has at most 32768 characters"),
        ("12345678\0", "a secret cannot hold a null byte: no command could be given it"),
    ):
        result = command.run("secrets", "set", "BAD", text=text)
        assert (result.exit_code, result.stderr) == (2, f"error: could not set the secret BAD: {reason}\n")


def test_an_agent_without_its_secret_is_told_what_to_set(command: Command) -> None:
    result = command.run("run", "-", "Hello", text=MANIFEST.replace("TYPED_TOKEN", "NOBODY_SET_THIS"))
    assert result.exit_code == 1
    assert "the agent needs the secret 'NOBODY_SET_THIS', which is not there" in result.stderr
    assert result.stderr.endswith("hint: run `stigmer secrets set NOBODY_SET_THIS`\n")


def test_the_key_can_be_changed(command: Command) -> None:
    command.run("secrets", "set", "KEPT", text=VALUE)
    rotated = command.run("secrets", "rotate-key")
    assert re.fullmatch(r"encrypted \d+ secrets? with the new key\n", rotated.stderr)
    assert json.loads(command.run("secrets", "rotate-key", "--json").stdout)["old_keys_removed"] is True

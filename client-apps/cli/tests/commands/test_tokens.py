"""`stigmer tokens`: a token is printed once, used, listed without its text, and revoked."""

import json

import pytest

from cli_harness import Command


def test_a_token_is_made_used_listed_and_revoked(command: Command) -> None:
    made = command.run("tokens", "create", "build-server", "--scope", "user", "--expires", "30d")
    token = made.stdout.strip()
    as_user = Command(command.environment | {"STIGMER_TOKEN": token}, command.folder)

    used = as_user.run("agents", "list")
    refused = as_user.run("tokens", "create", "another")
    listed = command.run("tokens", "list")
    revoked = command.run("tokens", "revoke", "build-server", "--yes")
    afterwards = as_user.run("agents", "list")

    assert (made.exit_code, made.stdout) == (0, f"{token}\n")
    assert token.startswith("stigmer_user_")
    assert token not in made.stderr
    assert used.exit_code == 0
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "error: token 'build-server' has the scope user, which does not allow this call" in refused.stderr
    assert "build-server" in listed.stdout
    assert token not in listed.stdout + listed.stderr
    assert (revoked.exit_code, revoked.stderr) == (0, "revoked the token 'build-server'\n")
    assert afterwards.exit_code == 1
    assert "error: the call carries no valid bearer token" in afterwards.stderr
    assert "build-server" not in command.run("tokens", "list").stdout
    assert "revoked" in command.run("tokens", "list", "--all").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["BAD"], "error: 'BAD' is no name for a token"),
        (["fine", "--expires", "soon"], "'soon' is not a duration up to 3660d"),
        (["fine", "--expires", "0d"], "'0d' is not a duration up to 3660d"),
        (["fine", "--scope", "root"], "'root' is not one of"),
    ],
)
def test_a_wrong_call_makes_no_token(command: Command, arguments: list[str], message: str) -> None:
    done = command.run("tokens", "create", *arguments)

    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_token_stands_for_whom_it_was_made_for(command: Command) -> None:
    made = command.run("tokens", "create", "laptop", "--subject", "alice@example.org")
    as_user = Command(command.environment | {"STIGMER_TOKEN": made.stdout.strip()}, command.folder)

    listed = as_user.run("tokens", "list")
    command.run("tokens", "revoke", "laptop", "--yes")

    assert "token 'laptop' has the scope user, stands for alice@example.org and holds" in made.stderr
    assert [line.split()[:3] for line in listed.stdout.splitlines()] == [
        ["NAME", "OWNER", "SCOPE"],
        ["laptop", "alice@example.org", "user"],
    ]


def test_an_agent_is_shared_and_given_away(command: Command) -> None:
    made = command.run("tokens", "create", "second-laptop", "--subject", "carol")
    as_user = Command(command.environment | {"STIGMER_TOKEN": made.stdout.strip()}, command.folder)
    command.run("apply", "-f", "agent.yaml")

    before = as_user.run("agents", "get", "greeter")
    shared = command.run("agents", "assign", "greeter", "--shared-with", "everybody")
    seen = as_user.run("agents", "get", "greeter")
    own = as_user.run("apply", "-f", "agent.yaml")
    listed = command.run("agents", "list")
    clash = command.run("agents", "assign", "greeter", "--to", "carol")
    as_user.run("agents", "delete", "greeter", "--yes")
    given = command.run("agents", "assign", "greeter", "--to", "carol")
    gone = command.run("agents", "get", "greeter")
    as_user.run("agents", "delete", "greeter", "--yes")
    command.run("tokens", "revoke", "second-laptop", "--yes")

    assert before.exit_code == 1
    assert shared.stderr == "the agent 'greeter' is administrator's, shared with everybody\n"
    assert seen.exit_code == 0
    assert "created" in own.stdout + own.stderr
    header, *rows = [line.split() for line in listed.stdout.splitlines()]
    assert header[-1] == "OWNER"
    assert [row[-1] for row in rows if row[0] == "greeter"] == ["administrator", "carol"]
    assert (clash.exit_code, "has an agent 'greeter' already" in clash.stderr) == (1, True)
    assert given.stderr == "the agent 'greeter' is carol's\n"
    assert "error: there is no agent 'greeter'" in gone.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["agents", "assign", "x"], "error: nothing was said to change"),
        (["sessions", "assign", "x", "--to", "A B"], "error: 'A B' is no owner's name"),
        (["tokens", "create", "x", "--subject", "A B"], "error: 'A B' is no owner's name"),
    ],
)
def test_who_is_no_owner_is_given_nothing(command: Command, arguments: list[str], message: str) -> None:
    done = command.run(*arguments)

    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_token_gets_the_policy_that_it_is_told(command: Command) -> None:
    options = ["--allow-network", "none,web", "--allow-workspaces", "/srv/a", "--allow-workspaces", "/srv/b"]
    options += ["--allow-secrets", "CI_*", "--max-cost-per-day", "2.50", "--json"]
    made = command.run("tokens", "create", "bound", *options)
    command.run("tokens", "revoke", "bound", "--yes")

    assert json.loads(made.stdout)["policy"] == {
        "allow_network": ["none", "web"],
        "allow_workspaces": ["/srv/a", "/srv/b"],
        "allow_secrets": ["CI_*"],
        "max_cost_per_day_usd": "2.50",
        "approve": None,
    }


@pytest.mark.parametrize(
    ("option", "value"),
    [("--allow-network", "some"), ("--max-cost-per-day", "-1"), ("--max-cost-per-day", "much")],
)
def test_a_policy_that_makes_no_sense_is_refused(command: Command, option: str, value: str) -> None:
    done = command.run("tokens", "create", "bound", option, value)

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {option}: {value!r}: ")

"""`stigmer tokens`: a token is printed once, used, listed without its text, and revoked."""

import pytest

from cli_harness import Command


def test_a_token_is_made_used_listed_and_revoked(command: Command) -> None:
    made = command.run("tokens", "create", "build-server", "--scope", "user", "--expires", "30d")
    token = made.stdout.strip()
    as_user = Command(command.environment | {"STIGMER_TOKEN": token}, command.folder)

    used = as_user.run("agents", "list")
    refused = as_user.run("tokens", "list")
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

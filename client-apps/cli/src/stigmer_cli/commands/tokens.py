"""`stigmer tokens`: who may call the server."""

from typing import TYPE_CHECKING

import click

from stigmer_cli.commands.completions import complete_tokens

if TYPE_CHECKING:
    from pydantic import ValidationError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_MOST_SECONDS = 10 * 366 * 86_400
_SCOPES = ("runner", "user", "approve", "admin")


@click.group()
def tokens() -> None:
    """Make, list and revoke access tokens."""


def _parse_expiry(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    number, unit = value[:-1], value[-1:]
    seconds = int(number) * _UNITS.get(unit, 0) if number.isascii() and number.isdigit() else 0
    if not 0 < seconds <= _MOST_SECONDS:
        raise click.BadParameter(f"{value!r} is not a duration up to 3660d; write one such as 12h or 30d")
    return seconds


@tokens.command("create", epilog="Example: stigmer tokens create build-server --expires 30d > token")
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(_SCOPES),
    default="user",
    show_default=True,
    help="What it allows: runner only runs executions, approve only decides; admin also manages tokens.",
)
@click.option(
    "--expires",
    "expires_in_seconds",
    metavar="DURATION",
    callback=_parse_expiry,
    help="When it ends, such as 12h or 30d; by default when it is revoked.",
)
@click.option(
    "--subject",
    "owner",
    metavar="OWNER",
    help="Who it stands for, by default NAME; tokens of one owner see and make the same things.",
)
@click.option(
    "--allow-network", metavar="none,web,all", help="Which spec.network its executions may have, by commas."
)
@click.option("--allow-workspaces", metavar="ROOT", multiple=True, help="Where their workspaces may lie.")
@click.option("--allow-secrets", metavar="PATTERN", multiple=True, help="Which secrets they may name.")
@click.option(
    "--max-cost-per-day",
    metavar="USD",
    help="What they may cost a day (UTC); models need a known price then.",
)
@click.option(
    "--approve",
    type=click.Choice(["ask", "allow", "deny"]),
    help="What becomes of their tool calls at the least, whatever rules of agents say.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with what the list shows.")
def create_token(
    name: str,
    scope: str,
    expires_in_seconds: int | None,
    owner: str | None,
    as_json: bool,
    allow_network: str | None,
    allow_workspaces: tuple[str, ...],
    allow_secrets: tuple[str, ...],
    max_cost_per_day: str | None,
    approve: str | None,
) -> None:
    """Make a token and print it, this once."""
    from pydantic import ValidationError

    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.output import print_json, print_line, print_note
    from stigmer_contract.api import CreateToken, TokenPolicy, TokenScope

    try:
        policy = TokenPolicy.model_validate(
            {
                "allow_network": None if allow_network is None else allow_network.split(","),
                "allow_workspaces": list(allow_workspaces) or None,
                "allow_secrets": list(allow_secrets) or None,
                "max_cost_per_day_usd": max_cost_per_day,
                "approve": approve,
            }
        )
        request = CreateToken(
            name=name,
            scope=TokenScope(scope),
            expires_in_seconds=expires_in_seconds,
            owner=owner,
            policy=policy,
        )
    except ValidationError as error:
        raise _usage_error(error, name, owner) from error
    with open_client() as client:
        created = client.create_token(request)
    if as_json:
        print_json(created.model_dump(mode="json"))
        return
    print_line(created.token)
    until = f"until {created.expires_at:%Y-%m-%d %H:%M} UTC" if created.expires_at else "until it is revoked"
    stands_for = "" if created.owner == name else f", stands for {created.owner}"
    print_note(
        f"token {name!r} has the scope {created.scope}{stands_for} and holds {until}; "
        "it cannot be shown again"
    )


def _usage_error(error: "ValidationError", name: str, owner: str | None) -> Exception:
    from stigmer_cli.errors import UsageError

    if any("owner" in found["loc"] for found in error.errors()):
        return UsageError(
            f"{owner!r} is no owner's name",
            "write lower-case letters, digits, '.', '@', '_' and '-', at most 63",
        )
    options = {"allow_network": "--allow-network", "max_cost_per_day_usd": "--max-cost-per-day"}
    for found in error.errors():
        option = options.get(str(found["loc"][0]))
        if option is not None:
            return UsageError(f"{option}: {found['input']!r}: {found['msg']}")
    return UsageError(
        f"{name!r} is no name for a token", "write lower-case letters, digits and dashes, at most 63"
    )


@tokens.command("list", epilog="Example: stigmer tokens list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Most tokens.")
@click.option("--all", "with_revoked", is_flag=True, help="Show revoked tokens too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_tokens(limit: int, with_revoked: bool, as_json: bool) -> None:
    """List tokens, newest first; their texts are kept nowhere."""
    from datetime import UTC, datetime

    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.output import print_json
    from stigmer_cli.rendering.quantities import format_age
    from stigmer_cli.rendering.tables import print_table

    with open_client() as client:
        found = client.list_tokens(limit, with_revoked=with_revoked)
    if as_json:
        print_json([token.model_dump(mode="json") for token in found])
        return
    now = datetime.now(UTC)
    rows: list[list[str]] = []
    for token in found:
        if token.revoked_at:
            state = "revoked"
        elif token.expires_at is None:
            state = "holds"
        else:
            is_over = token.expires_at <= now
            state = "expired" if is_over else f"until {token.expires_at:%Y-%m-%d %H:%M}"
        used = format_age(token.last_used_at, now) if token.last_used_at else "never"
        age = format_age(token.created_at, now)
        rows.append([token.name, token.owner, token.scope.value, age, used, state])
    print_table(
        ["NAME", "OWNER", "SCOPE", "CREATED", "LAST USED", "STATE"],
        rows,
        empty="no tokens; make one with `stigmer tokens create NAME`",
    )


@tokens.command("revoke", epilog="Example: stigmer tokens revoke build-server --yes")
@click.argument("name", shell_complete=complete_tokens)
@click.option("--yes", is_flag=True, help="Do not ask.")
def revoke_token(name: str, yes: bool) -> None:
    """Revoke a token, at once."""
    from stigmer_cli.commands.connecting import confirm_deletion, open_client
    from stigmer_cli.output import print_note

    with open_client() as client:
        confirm_deletion(f"the token {name!r}", yes)
        client.revoke_token(name)
    print_note(f"revoked the token {name!r}")

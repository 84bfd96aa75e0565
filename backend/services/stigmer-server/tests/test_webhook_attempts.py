"""A message to a webhook has as many attempts whatever goes wrong with it, foreseen or not."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from sqlalchemy import select

from stigmer_contract.api import InputResource
from stigmer_contract.identifiers import DELIVERY_PREFIX, INPUT_PREFIX, new_id
from stigmer_server.database import open_database
from stigmer_server.inputs import Inputs
from stigmer_server.migrations import migrate
from stigmer_server.tables import webhook_deliveries
from stigmer_server.webhook_sender import PAUSES_SECONDS, WebhookSender

LONG_AGO = datetime.now(UTC) - timedelta(days=1)


class FaultyInputs:
    """Inputs that fail as nobody expects."""

    async def look(self, input_id: str) -> InputResource:
        """Fails."""
        raise RuntimeError(f"a defect, in {input_id}")


async def test_what_fails_as_nobody_expects_is_given_up_like_all_else(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/stigmer.db")
    await migrate(database)
    row = {
        "delivery_id": new_id(DELIVERY_PREFIX),
        "webhook": "ops",
        "event": "input.requested",
        "input_id": new_id(INPUT_PREFIX),
        "created_at": LONG_AGO,
        "attempts": 0,
    }
    await database.write(lambda connection: connection.execute(webhook_deliveries.insert().values(row)))
    unused = cast("Any", None)
    sender = WebhookSender(database, unused, cast("Inputs", FaultyInputs()), unused, None)
    attempts = 0
    while True:
        await database.write(
            lambda connection: connection.execute(webhook_deliveries.update().values(due_at=LONG_AGO))
        )
        await sender.send_due()
        attempts += 1
        found = await database.read(lambda connection: connection.execute(select(webhook_deliveries)).one())
        assert (found.attempts, found.problem) == (attempts, "the server could not send it; its log says why")
        if found.due_at is None:
            break
    assert attempts == len(PAUSES_SECONDS) + 1
    await database.close()

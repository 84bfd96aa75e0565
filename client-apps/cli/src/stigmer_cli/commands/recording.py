"""`--record`: an execution as a cassette that plays it again."""

from pathlib import Path
from typing import TYPE_CHECKING

from stigmer_cli.errors import UsageError

if TYPE_CHECKING:
    from stigmer_cli.api_client import ApiClient


def check_record_file(record: str | None) -> Path | None:
    """The file that is to be written.

    Raises:
        UsageError: it cannot be one.
    """
    if record is None:
        return None
    file = Path(record).expanduser()
    if not file.absolute().parent.is_dir() or file.is_dir():
        raise UsageError(
            f"could not write the cassette {record!r}: it must be a file in a folder that exists"
        )
    return file


def record_execution(client: "ApiClient", execution_id: str, file: Path) -> None:
    """Write the cassette of an execution that has ended."""
    from stigmer_cli.commands.shared_files import replace_file
    from stigmer_cli.output import print_note
    from stigmer_contract.cassette import cassette_from_events, dump_cassette

    cassette = cassette_from_events(list(client.read_events(execution_id)), client.fetch_blob)
    replace_file(file, dump_cassette(cassette))
    print_note(f"wrote the cassette {str(file)!r}; play it with --model replay:{file}")

"""Shows an execution to a program: one JSON object a line, for recorded and live events alike."""

import json
from typing import TextIO

from stigmer_cli.output import print_note, writing_stdout
from stigmer_contract.events import LiveEvent, RecordedEvent


class JsonView:
    """Writes NDJSON. Each line holds `execution_id` and `event`; a recorded one also its place in the log."""

    def __init__(self, stdout: TextIO, execution_id: str) -> None:
        self._stdout = stdout
        self._execution_id = execution_id

    def show(self, event: RecordedEvent | LiveEvent) -> None:
        """Writes one event."""
        document = event.model_dump(mode="json")
        line = document if isinstance(event, RecordedEvent) else {"event": document}
        with writing_stdout():
            self._stdout.write(json.dumps({"execution_id": self._execution_id, **line}) + "\n")
            self._stdout.flush()

    def show_note(self, text: str) -> None:
        """A remark is for a person, so it goes to stderr."""
        print_note(text)

    def tick(self) -> None:
        """Nothing: a program needs no sign of life."""

    def clear(self) -> None:
        """Nothing: all that is written stays."""

    def show_summary(self) -> None:
        """Nothing: the events say it all."""

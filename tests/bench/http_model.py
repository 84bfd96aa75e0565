"""A model on the other side of a connection, in OpenAI's wire format, streamed."""

import subprocess
import sys
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter

from model_server import VALID_KEY, ScriptedCall, ScriptedModel, ScriptedTurn


class ModelOverHttp:
    """The scripted model as a process of its own: so many file writes, then done."""

    def __init__(self, home: Path, *, tool_calls: int) -> None:
        """Starts nothing yet."""
        call = ScriptedCall("write_file", {"path": "file-{turn}.txt", "content": "content {turn}"})
        script = ScriptedModel([*[ScriptedTurn(calls=[call])] * tool_calls, ScriptedTurn(text="done")])
        self._script = home / "script.json"
        self._script.write_bytes(TypeAdapter(ScriptedModel).dump_json(script))

    def __enter__(self) -> Self:
        program = Path(__file__).parents[1] / "support" / "model_server.py"
        self._process = subprocess.Popen(
            [sys.executable, str(program), "--script", str(self._script)],
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        assert self._process.stdout is not None
        self._url = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def runner_environment(self) -> dict[str, str]:
        """What makes a runner ask it."""
        return {
            "STIGMER_LLM_BASE_URL": self._url,
            "OPENAI_BASE_URL": self._url,
            "OPENAI_API_KEY": VALID_KEY,
        }

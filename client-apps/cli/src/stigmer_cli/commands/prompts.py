"""The prompt of an execution, from wherever it comes."""

import sys
from pathlib import Path

from stigmer_cli.errors import UsageError


def read_prompt(prompt: str | None, prompt_file: str | None) -> str:
    """The prompt, from wherever it comes.

    Raises:
        UsageError: there is none or there are two, it cannot be read, is no UTF-8, is empty or too long.
    """
    from stigmer_cli.commands.manifest_files import STDIN
    from stigmer_cli.commands.shared_files import read_file
    from stigmer_contract.api import MAX_INPUT_CHARACTERS

    if (prompt is None) == (prompt_file is None):
        what = "there is no prompt" if prompt is None else "there is a prompt, and --prompt-file too"
        raise UsageError(what, "say what the agent shall do, or name a file with --prompt-file")
    try:
        if STDIN in (prompt, prompt_file):
            content = sys.stdin.buffer.read()
        elif prompt_file is not None:
            content = read_file(Path(prompt_file).expanduser())
        else:
            # Python marks bytes that are not the locale's; what it could read is text, whatever the locale.
            content = (prompt or "").encode("utf-8", errors="surrogateescape")
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"could not read the prompt {prompt_file!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the prompt is not valid UTF-8: byte {error.start + 1} is 0x{error.object[error.start]:02x}",
            "convert it, for example with `iconv -t UTF-8`",
        ) from error
    if not text.strip():
        raise UsageError("the prompt is empty", "say what the agent shall do")
    if len(text) > MAX_INPUT_CHARACTERS:
        raise UsageError(
            f"the prompt has {len(text)} characters, and may have {MAX_INPUT_CHARACTERS}",
            "put long texts into files of the workspace, and name them in the prompt",
        )
    return text

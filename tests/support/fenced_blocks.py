"""The fenced blocks of a Markdown page."""

import re
from pathlib import Path


def fenced_blocks(page: Path, language: str) -> list[str]:
    """What stands in the blocks whose fence says exactly `language`, in order."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{re.escape(language)}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)

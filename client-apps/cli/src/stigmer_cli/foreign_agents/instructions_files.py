"""AGENTS.md, and files of the same kind by other names: all of their text is an agent's instructions."""

import re
from typing import Final

from stigmer_cli.foreign_agents.foreign_documents import ForeignDocument
from stigmer_cli.foreign_agents.written_agents import tidy
from stigmer_contract.yaml_document import decode_text
from stigmer_contract.yaml_problems import YamlProblem

_IMPORT: Final = re.compile(r"^\s*@(?P<path>[\w./~-]+)\s*$")


def read_instructions(content: bytes, source: str) -> ForeignDocument:
    """The instructions as the document's value; an empty text where there are none.

    Raises:
        ValueError: it is no text; says where and why.
    """
    try:
        text = decode_text(content)
    except YamlProblem as problem:
        raise ValueError(f"{source}:{problem.position.line}: {problem.message}") from problem
    document = ForeignDocument(source, tidy(text) if text.strip() else "", {(): 1})
    for number, line in enumerate(text.splitlines(), start=1):
        imported = _IMPORT.match(line)
        if imported is not None:
            document.lines = {(): number}
            document.remark(
                (), f"{imported['path']!r} was not taken in: write its text here, or give the file"
            )
    if not document.value:
        document.remark((), "is empty")
    return document

"""What is imported of an agent, and the manifest that it becomes."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import JsonValue

from stigmer_contract.manifest import API_VERSION
from stigmer_contract.manifest_reader import read_manifests

READING_ONLY: Final[tuple[JsonValue, ...]] = tuple(
    {"tool": tool, "policy": "deny"} for tool in ("write_file", "edit_file", "create_directory")
)
"""Rules for an agent that may read files and not change them."""


@dataclass
class ImportedAgent:
    """One agent, on its way to a manifest."""

    name: str
    source: str
    """The file that it comes from."""
    spec: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    skills: list[Path] = field(default_factory=list[Path])
    """Folders of skills."""


def agent_name(text: str) -> str:
    """A name that an agent may have, out of any text."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-") or "agent"


def tidy(text: str) -> str:
    """Instructions without blanks at the ends of lines, which YAML has no block for."""
    return "\n".join(line.rstrip() for line in text.strip().split("\n")) + "\n"


def write_manifest(agent: ImportedAgent, skills: list[str]) -> str:
    """The manifest as YAML text; `skills` are the folders as the manifest is to name them.

    Raises:
        ManifestError: it would not be valid, whatever was in the foreign file.
    """
    spec = {**agent.spec, **({"skills": list[JsonValue](skills)} if skills else {})}
    document = {
        "apiVersion": API_VERSION,
        "kind": "Agent",
        "metadata": {"name": agent.name},
        "spec": {key: spec[key] for key in sorted(spec, key=_place)},
    }
    source = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", "?", agent.source)
    text = f"# Written by `stigmer import` from {source}\n" + _dump(document)
    read_manifests(text.encode("utf-8", errors="replace"), f"the manifest of {agent.name!r}")
    return text


_ORDER: Final = (
    "description", "instructions", "model", "modelSettings", "tools", "askUser", "network", "mcpServers",
    "skills", "scripts", "openapi", "output", "approval", "context", "limits",
)  # fmt: skip


def _place(key: str) -> tuple[int, str]:
    return (_ORDER.index(key) if key in _ORDER else len(_ORDER), key)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and nothing as an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar(  # pyright: ignore[reportUnknownMemberType] - untyped
        "tag:yaml.org,2002:str", text, style=style
    )


_Dumper.add_representer(str, _write_text)


def _dump(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)

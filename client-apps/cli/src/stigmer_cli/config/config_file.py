"""config.yaml: reads its values with their places, and sets one without touching the rest of the text.

Knows which keys exist from its caller; what a value means is no concern of it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stigmer_cli.errors import ConfigurationError

if TYPE_CHECKING:
    import yaml

MAX_FILE_BYTES = 1_000_000
_INDENT = 2


@dataclass(frozen=True)
class Place:
    """A place in the file; line and column from 1."""

    path: Path
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


@dataclass(frozen=True)
class FileValue:
    """One value of the file. `start` and `end` are offsets into its text."""

    text: str
    place: Place
    start: int
    end: int


@dataclass(frozen=True)
class _Section:
    """A mapping of the file: where a further key could be put into it."""

    column: int
    end: int
    """Offset behind its last entry; of `{…}`, before the closing brace."""
    is_flow: bool
    is_empty: bool


@dataclass(frozen=True)
class ConfigFile:
    """The file's text with its values, by dotted key, and its sections, by name (`""`: the whole file)."""

    path: Path
    text: str
    values: dict[str, FileValue]
    sections: dict[str, _Section]
    mappings: frozenset[str] = frozenset()
    """Keys whose value may be a mapping; it is read as JSON."""

    def with_value(self, key: str, value: str) -> str:
        """The file's text with one value set; comments and order stay."""
        written = _scalar(value)
        if key in self.values:
            old = self.values[key]
            return self.text[: old.start] + written + self.text[old.end :]
        section_name, _, leaf = key.rpartition(".")
        section = self.sections.get(section_name)
        if section is not None:
            return self._with_entry(section, leaf, written)
        root = self.sections.get("")
        if root is not None and root.is_flow:
            return self._with_entry(root, section_name, f"{{{leaf}: {written}}}")
        text = self.text if self.text.endswith("\n") or not self.text else self.text + "\n"
        return text + (f"{section_name}:\n  {leaf}: {written}\n" if section_name else f"{leaf}: {written}\n")

    def without_value(self, key: str) -> str:
        """The file's text without one value, which is in it; comments and order of the others stay."""
        value = self.values[key]
        start = self.text.rfind("\n", 0, value.start) + 1
        end = self.text.find("\n", value.end) + 1 or len(self.text)
        leaf = key.rpartition(".")[2]
        if (
            self.text[start : value.start].strip() == f"{leaf}:"
            and "\n" not in self.text[value.start : value.end]
        ):
            return self.text[:start] + self.text[end:]
        return f"{self.text[: value.start]}null{self.text[value.end :]}"

    def _with_entry(self, section: _Section, leaf: str, written: str) -> str:
        if section.is_flow:
            comma = "" if section.is_empty else ", "
            return f"{self.text[: section.end]}{comma}{leaf}: {written}{self.text[section.end :]}"
        line_end = self.text.find("\n", section.end)
        end = len(self.text) if line_end < 0 else line_end
        return f"{self.text[:end]}\n{' ' * section.column}{leaf}: {written}{self.text[end:] or chr(10)}"


def read_config_file(path: Path, keys: Collection[str], mappings: Collection[str] = ()) -> ConfigFile:
    """Reads the file; one that is missing or empty holds no value.

    Raises:
        ConfigurationError: it cannot be read, is no YAML, or has a key that is none of `keys`.
    """
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise ConfigurationError(str(path), f"could not read the file: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigurationError(str(path), f"the file is larger than {MAX_FILE_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}:{line}", "the file is not UTF-8 text") from error
    return parse_config_text(path, text, keys, mappings)


def parse_config_text(
    path: Path, text: str, keys: Collection[str], mappings: Collection[str] = ()
) -> ConfigFile:
    """As `read_config_file`, from a text that is at hand."""
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigurationError(where, f"the file is not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(str(path), f"the file is not YAML: {error}") from error
    except RecursionError as error:
        raise ConfigurationError(str(path), "the file is nested too deeply") from error
    file = ConfigFile(path, text, {}, {}, frozenset(mappings))
    if root is not None:
        _collect(file, root, "", keys)
    return file


def _collect(file: ConfigFile, node: yaml.Node, section: str, keys: Collection[str]) -> None:
    import yaml

    if not isinstance(node, yaml.MappingNode):
        if _is_null(node):
            if node.start_mark.index == node.end_mark.index:  # nothing stands there yet
                file.sections[section] = _Section(_INDENT, node.end_mark.index, False, True)
            return
        what = f"`{section}`" if section else "the file"
        raise ConfigurationError(str(_place(file, node)), f"{what} must be a mapping of keys to values")
    is_flow = bool(node.flow_style)
    end = node.end_mark.index - 1 if is_flow else _end_of_text(node)
    file.sections[section] = _Section(node.start_mark.column, end, is_flow, not node.value)
    seen: set[str] = set()
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigurationError(str(_place(file, key_node)), "a key must be a word")
        key = f"{section}.{key_node.value}" if section else key_node.value
        if key in seen:
            raise ConfigurationError(str(_place(file, key_node)), f"`{key}` is set twice")
        seen.add(key)
        if key in keys:
            _collect_value(file, key, value_node)
        elif any(known.startswith(f"{key}.") for known in keys):
            _collect(file, value_node, key, keys)
        else:
            raise ConfigurationError(
                str(_place(file, key_node)), f"unknown key `{key}`", unknown_key_hint(key, keys)
            )


def _collect_value(file: ConfigFile, key: str, node: yaml.Node) -> None:
    import json

    import yaml

    if isinstance(node, yaml.MappingNode) and key in file.mappings:
        end = node.end_mark.index if node.flow_style else _end_of_text(node)
        text = json.dumps(_texts_of(node))
        file.values[key] = FileValue(text, _place(file, node), node.start_mark.index, end)
        return
    if not isinstance(node, yaml.ScalarNode):
        raise ConfigurationError(str(_place(file, node)), f"`{key}` must be a single value")
    if not _is_null(node):
        start, end = node.start_mark.index, node.end_mark.index
        file.values[key] = FileValue(node.value, _place(file, node), start, end)


def _texts_of(node: yaml.Node) -> object:
    """What the node holds: mappings, lists and texts."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _texts_of(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_texts_of(item) for item in node.value]
    return None if _is_null(node) else str(node.value)


def _end_of_text(node: yaml.Node) -> int:
    """Where the node's last word ends; PyYAML's own mark of a mapping is behind the comments that follow."""
    import yaml

    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        key_node, value_node = node.value[-1]
        return max(key_node.end_mark.index, _end_of_text(value_node))
    return node.end_mark.index


def _is_null(node: yaml.Node) -> bool:
    return node.tag == "tag:yaml.org,2002:null"


def _place(file: ConfigFile, node: yaml.Node) -> Place:
    return Place(file.path, node.start_mark.line + 1, node.start_mark.column + 1)


def unknown_key_hint(key: str, keys: Collection[str]) -> str:
    """What the person may have meant."""
    from difflib import get_close_matches

    lowered = {known.lower(): known for known in keys}
    close = get_close_matches(key.lower(), lowered, n=1, cutoff=0.6)
    if close:
        return f"write `{lowered[close[0]]}`"
    return "run `stigmer config show` to see the keys that there are"


def _scalar(value: str) -> str:
    """The value as a YAML scalar: plain where YAML reads it back as it is, else quoted."""
    import json

    import yaml

    try:
        node = yaml.compose(f"{{k: {value}}}", Loader=yaml.SafeLoader)
        plain = (
            isinstance(node, yaml.MappingNode)
            and len(node.value) == 1
            and isinstance(node.value[0][1], yaml.ScalarNode)
            and node.value[0][1].style is None
            and node.value[0][1].value == value
            and not _is_null(node.value[0][1])
        )
    except yaml.YAMLError:
        plain = False
    return value if plain else json.dumps(value, ensure_ascii=False)

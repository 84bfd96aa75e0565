"""The part of the manifest that describes scripts: tools of one's own in any language."""

from pathlib import PurePosixPath
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, Field, JsonValue

from stigmer_contract.isolation_words import Network
from stigmer_contract.json_schemas import check_arguments_schema
from stigmer_contract.manifest_parts import Environment, ManifestPart, SecretReference, unique

TOOL_NAME: Final = r"^[a-zA-Z_][a-zA-Z0-9_-]{0,63}$"
"""What every provider takes as a tool's name."""
SEARCH_TOOL: Final = "search_tools"
"""Finds tools that an agent is not shown at first."""
BUILT_IN_TOOLS: Final = frozenset(
    {
        "ask_user",
        "create_directory",
        "edit_file",
        "fetch_page",
        "file_info",
        "find_files",
        "list_directory",
        "load_skill",
        "read_file",
        "read_skill_file",
        "run_command",
        "search_files",
        SEARCH_TOOL,
        "search_web",
        "wait",
        "write_file",
    }
)
"""Names that tools of built-in toolsets have."""
MAX_COMMAND_ARGUMENTS: Final = 256

PACK_PATTERN: Final = r"^sha256:[0-9a-f]{64}$"
PackReference: TypeAlias = Annotated[str, Field(pattern=PACK_PATTERN)]
"""A pack (`packs`) in the blob store."""


def check_relative(path: str) -> str:
    """A path beneath a folder, as a manifest names it; normalised.

    Raises:
        ValueError: it leads elsewhere.
    """
    if not path or "\0" in path or "\\" in path:
        raise ValueError(f"{path!r} is not a path")
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or path.startswith("~"):
        raise ValueError(f"{path!r} leads out of the manifest's folder; name a file or folder in it")
    return path


def check_tool_name(name: str) -> str:
    """A name that no built-in tool has.

    Raises:
        ValueError: one has it.
    """
    if name in BUILT_IN_TOOLS:
        raise ValueError(f"{name!r} is the name of a built-in tool; choose another one")
    return name


def _check_argument(argument: str) -> str:
    if "\0" in argument:
        raise ValueError("an argument cannot hold a null byte")
    return argument


def check_parameters(schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """A schema that a tool's arguments can be held to.

    Raises:
        ValueError: why it is none.
    """
    check_arguments_schema(schema)
    return schema


class Script(ManifestPart):
    """A tool of the agent's own: a program that reads its arguments as JSON from standard input."""

    name: Annotated[str, AfterValidator(check_tool_name)] = Field(
        pattern=TOOL_NAME, examples=["lookup-order"]
    )
    """Name of the tool, as the model calls it: letters, digits, `_` and `-`, at most 64 characters."""
    description: str = Field(min_length=1, max_length=4096)
    """What the tool does, for the model."""
    command: list[Annotated[str, AfterValidator(_check_argument)]] = Field(
        min_length=1, max_length=MAX_COMMAND_ARGUMENTS, examples=[["python3", "lookup.py"]]
    )
    """Program and arguments. An argument that names a file or folder beside the manifest means that one."""
    parameters: Annotated[dict[str, JsonValue], AfterValidator(check_parameters)] = Field(
        default_factory=lambda: {"type": "object", "properties": {}}
    )
    """JSON Schema of the arguments, an object."""
    side_effects: bool = Field(default=True, strict=True)
    """Whether a call may change anything. If so, it never silently runs twice."""
    network: Network = "none"
    """What the script may reach: nothing, HTTPS, or everything."""
    env: Environment = Field(default_factory=dict[str, str | SecretReference])
    """Environment of this script and nothing else: texts, and secrets as `{secret: NAME}`."""
    files: Annotated[
        list[Annotated[str, AfterValidator(check_relative)]], Field(max_length=256), AfterValidator(unique)
    ] = Field(default_factory=list[str])
    """Further files and folders beside the manifest that the script needs, such as modules it imports."""
    pack: PackReference | None = None
    """The script's files as they were packed; written by `stigmer apply`."""

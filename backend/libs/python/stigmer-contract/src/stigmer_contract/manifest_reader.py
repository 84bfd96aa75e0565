"""Reads manifests from a person's text, and says everything that is wrong with them at once.

Names file, line, column and field of each problem and what would be right. Reads no files itself.
"""

from collections.abc import Iterable

from pydantic import ValidationError

from stigmer_contract.errors import ManifestError, ManifestProblem
from stigmer_contract.manifest import AgentManifest
from stigmer_contract.manifest_explanations import Explanation, explain_errors
from stigmer_contract.yaml_document import YamlDocument, decode_text, read_documents
from stigmer_contract.yaml_problems import FieldPath, Position, YamlProblem


def read_manifests(text: str | bytes, source: str) -> list[AgentManifest]:
    """The agents of a text of one or more YAML documents, in order; at least one.

    Args:
        text: the content, in UTF-8 if bytes.
        source: what problems call the text: the file as the person named it.

    Raises:
        ManifestError: with every problem of the text. After an error in YAML's own syntax the rest of
            the text is not looked at.
    """
    problems: list[ManifestProblem] = []
    manifests: list[AgentManifest] = []
    lines: dict[str, int] = {}
    count = 0
    try:
        for document in read_documents(text if isinstance(text, str) else decode_text(text)):
            count += 1
            manifest = _read_manifest(document, source, problems)
            if manifest is None:
                continue
            manifests.append(manifest)
            name, position = manifest.metadata.name, document.values[("metadata", "name")]
            if name in lines:
                message = f"{name!r} names the agent of line {lines[name]} already"
                problems.append(
                    _problem(source, position, ("metadata", "name"), message, "choose another name")
                )
            lines.setdefault(name, position.line)
    except YamlProblem as error:
        problems.append(_problem(source, error.position, error.path, error.message, error.hint))
        raise ManifestError(problems) from error
    if count == 0:
        hint = "write one, or let `stigmer init` write it"
        problems.append(_problem(source, Position(1, 1), (), "there is no manifest in here", hint))
    if problems:
        raise ManifestError(problems)
    return manifests


def format_field_path(path: FieldPath) -> str:
    """As the person spells it: `spec.approval[0].when`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _read_manifest(
    document: YamlDocument, source: str, problems: list[ManifestProblem]
) -> AgentManifest | None:
    found = [
        _problem(source, error.position, error.path, error.message, error.hint) for error in document.problems
    ]
    unreadable = [error.path for error in document.problems]
    manifest: AgentManifest | None = None
    try:
        # by_name=False: a person writes `mcpServers`; `mcp_servers` is no second spelling of it.
        manifest = AgentManifest.model_validate(document.value, by_alias=True, by_name=False)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        for explanation in explain_errors(errors, document.value):
            if not _stands_in(explanation.path, unreadable):
                found.append(_locate(explanation, document, source))
    found.sort(key=lambda problem: (problem.line, problem.column))
    problems.extend(found)
    return None if found else manifest


def _stands_in(path: FieldPath, places: Iterable[FieldPath]) -> bool:
    return any(path[: len(place)] == place for place in places)


def _locate(explanation: Explanation, document: YamlDocument, source: str) -> ManifestProblem:
    """A missing field and an unknown one are at a key; any other problem is at the value."""
    path = explanation.path
    if explanation.at_key and path in document.keys:
        position = document.keys[path]
    elif path in document.values:
        position = document.values[path]
    else:
        parent = path
        while parent and parent not in document.keys:
            parent = parent[:-1]
        position = document.keys.get(parent, document.start)
    return _problem(source, position, path, explanation.message, explanation.hint)


def _problem(
    source: str, position: Position, path: FieldPath, message: str, hint: str | None
) -> ManifestProblem:
    return ManifestProblem(source, position.line, position.column, format_field_path(path), message, hint)

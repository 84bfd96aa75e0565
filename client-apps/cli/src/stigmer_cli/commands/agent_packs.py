"""Packs the files that manifests name beside them, so that a runner anywhere has them as they were.

Reads files only; what a pack is, `stigmer_contract.packs` knows.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stigmer_cli.commands.manifest_files import ManifestFile, names_files, with_spec
from stigmer_cli.commands.packed_files import FilesRefused, collect_files
from stigmer_cli.commands.skill_packs import pack_git_skill, pack_skill
from stigmer_cli.errors import ManifestInvalid
from stigmer_cli.output import print_note
from stigmer_cli.rendering.quantities import plural
from stigmer_contract.manifest import AgentManifest

if TYPE_CHECKING:
    from stigmer_cli.api_client import ApiClient
    from stigmer_contract.manifest_mcp import McpServer
    from stigmer_contract.manifest_openapi import OpenApi
    from stigmer_contract.manifest_scripts import Script
    from stigmer_contract.manifest_skills import Skill


@dataclass(frozen=True)
class PackedAgent:
    """A manifest that names its files by their content."""

    manifest: AgentManifest
    packs: Sequence[bytes]
    """What is to be uploaded before the manifest."""

    def upload(self, client: "ApiClient") -> None:
        """Bring the packs to the server."""
        for pack in self.packs:
            client.upload_blob(pack)


class _Problems:
    """What is wrong with the files that manifests name."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, source: str, field: str, message: str, hint: str) -> None:
        self.found.append(f"{source}: {field}: {message}\n  hint: {hint}")


def pack_agents(files: Sequence[ManifestFile]) -> list[PackedAgent]:
    """The manifests with their files packed.

    Raises:
        ManifestInvalid: files are missing, or cannot be packed; it has been printed.
    """
    problems = _Problems()
    packed = [_pack(file, problems) for file in files]
    if problems.found:
        for problem in problems.found:
            print_note(problem)
        raise ManifestInvalid(f"{plural(len(problems.found), 'problem')} with files that manifests name")
    return packed


def _pack(file: ManifestFile, problems: _Problems) -> PackedAgent:
    spec, packs = file.manifest.spec, list[bytes]()
    if not names_files(file.manifest):
        return PackedAgent(file.manifest, ())
    scripts = [
        _pack_script(script, f"spec.scripts[{place}]", file, packs, problems)
        for place, script in enumerate(spec.scripts)
    ]
    skills = [
        _pack_skill(skill, f"spec.skills[{place}]", file, packs, problems)
        for place, skill in enumerate(spec.skills)
    ]
    apis = [
        _pack_api(api, f"spec.openapi[{place}]", file, packs, problems)
        for place, api in enumerate(spec.openapi)
    ]
    servers = [
        _pack_server(server, f"spec.mcpServers[{place}]", file, packs, problems)
        for place, server in enumerate(spec.mcp_servers)
    ]
    names = [skill.name for skill in skills if skill.name is not None]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.add(file.source, "spec.skills", f"two skills are named {name!r}", "leave one of them out")
    # What was not set stays so: `unset` is part of what is sent and shown.
    changed: dict[str, object] = {
        "scripts": scripts,
        "skills": skills,
        "openapi": apis,
        "mcp_servers": servers,
    }
    return PackedAgent(
        with_spec(file.manifest, **{name: value for name, value in changed.items() if value}), packs
    )


def _pack_script(
    script: "Script", field: str, file: ManifestFile, packs: list[bytes], problems: _Problems
) -> "Script":
    if script.pack is not None:
        return script
    from stigmer_contract.errors import PackError
    from stigmer_contract.packs import write_pack

    named = [argument for argument in script.command if _is_beside(file.folder, argument)]
    try:
        names = dict.fromkeys([*named, *script.files])
        found = {each.path: each for each in collect_files(file.folder, names)}
        if not found:
            return script
        pack = write_pack(found.values())
    except (FilesRefused, PackError) as error:
        problems.add(file.source, field, str(error), "name files that are in the manifest's folder")
        return script
    packs.append(pack)
    return script.model_copy(update={"pack": f"sha256:{hashlib.sha256(pack).hexdigest()}"})


def _pack_skill(
    skill: "Skill", field: str, file: ManifestFile, packs: list[bytes], problems: _Problems
) -> "Skill":
    if skill.pack is not None:
        return skill
    try:
        if skill.git is not None:
            packed = pack_git_skill(skill.git, skill.commit or "", skill.folder or "")
        else:
            packed = pack_skill(file.folder / Path(skill.folder or "").expanduser())
    except FilesRefused as error:
        problems.add(file.source, field, str(error), "name a folder that has a SKILL.md")
        return skill
    for note in packed.notes:
        print_note(f"note: {note}")
    packs.append(packed.pack)
    changes = {"name": packed.name, "description": packed.description, "pack": packed.reference}
    return skill.model_copy(update=changes)


def _pack_api(
    api: "OpenApi", field: str, file: ManifestFile, packs: list[bytes], problems: _Problems
) -> "OpenApi":
    if api.pack is not None:
        return api
    from stigmer_cli.commands.api_packs import pack_api

    try:
        packed = pack_api(api, file.folder)
    except FilesRefused as error:
        problems.add(file.source, field, str(error), "name an OpenAPI 3 document that can be read")
        return api
    for note in packed.notes:
        print_note(f"note: {note}")
    packs.append(packed.pack)
    return api.model_copy(update={"server": packed.server, "pack": packed.reference})


def _pack_server(
    server: "McpServer", field: str, file: ManifestFile, packs: list[bytes], problems: _Problems
) -> "McpServer":
    if server.package is None or server.fetched is not None:
        return server
    from stigmer_cli.commands.npm_packages import pack_package

    try:
        packed = pack_package(server.package)
    except FilesRefused as error:
        problems.add(
            file.source, f"{field}.package", str(error), "name a package that npm can fetch, with its version"
        )
        return server
    packs.extend(packed.packs)
    return server.model_copy(update={"fetched": packed.fetched})


def _is_beside(folder: Path, argument: str) -> bool:
    """Whether an argument names a file or folder of the manifest's folder."""
    from stigmer_contract.manifest_scripts import check_relative

    try:
        check_relative(argument)
        # `.` is no file of the script's: all of the folder is never meant.
        return Path(argument) != Path() and os.path.lexists(folder / argument)
    except (ValueError, OSError):
        return False

"""`stigmer import`: makes manifests of what other programs call agents, and says what is left behind."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

from stigmer_cli.commands.completions import complete_directories, complete_files

if TYPE_CHECKING:
    from pydantic import JsonValue

    from stigmer_cli.foreign_agents import ForeignDocument, ImportedAgent, Remark

MAX_FILES: Final = 500
_MCP_FILES: Final = (
    ".mcp.json", "mcp.json", ".cursor/mcp.json", ".vscode/mcp.json", "claude_desktop_config.json",
    ".gemini/settings.json",
)  # fmt: skip
_INSTRUCTIONS: Final = ("AGENTS.md", "CLAUDE.md", ".claude/CLAUDE.md")
_PLAIN_INSTRUCTIONS: Final = "You do what you are asked to in your workspace.\n"

_ReadT = TypeVar("_ReadT")


@click.command("import", epilog="Example: stigmer import ~/code/shop -o agents")
@click.argument("path", metavar="PATH", shell_complete=complete_files)
@click.option(
    "-o",
    "--output",
    default="agents",
    show_default=True,
    metavar="DIR",
    help="Where the manifests go, each into a folder of its agent's name.",
    shell_complete=complete_directories,
)
@click.option("--force", is_flag=True, help="Replace manifests that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print agents and remarks as JSON.")
def import_agents(path: str, output: str, force: bool, as_json: bool) -> None:
    """Make manifests of agents of other programs.

    Reads MCP servers (.mcp.json, mcp.json), agents and skills of Claude Code (.claude/), YAML of
    docker-agent, AGENTS.md and CLAUDE.md: PATH is one of these files, or a folder that has them. What could
    not be carried over is told line by line; values of secrets never are.
    """
    from stigmer_cli.commands.shared_files import replace_file
    from stigmer_cli.errors import StigmerError, UsageError
    from stigmer_cli.foreign_agents import write_manifest
    from stigmer_cli.output import print_json, print_line, print_note
    from stigmer_cli.rendering.quantities import plural
    from stigmer_contract.errors import ManifestError

    place = Path(path)
    if not place.exists():
        raise UsageError(f"could not import {path!r}: there is no such file or folder")
    search = _Search(place)
    agents = search.agents()
    for remark in search.remarks:
        print_note(str(remark))
    written = list[dict[str, object]]()
    wrong = 0
    for agent in agents:
        file = Path(output) / agent.name / "agent.yaml"
        try:
            text = write_manifest(agent, [_relative(folder, file.parent) for folder in agent.skills])
        except ManifestError as error:
            wrong += 1
            for problem in error.problems:
                print_note(f"{agent.source}: the agent {agent.name!r} was not carried over: {problem}")
            continue
        if os.path.lexists(file) and not force:
            raise StigmerError(
                f"could not write {str(file)!r}: it exists already",
                "name another folder with `-o`, or replace it with `--force`",
            )
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StigmerError(f"could not make {str(file.parent)!r}: {error.strerror}") from error
        replace_file(file, text)
        written.append({"name": agent.name, "source": agent.source, "manifest": str(file)})
        if not as_json:
            print_line(str(file))
    if as_json:
        remarks = [vars(remark) for remark in search.remarks]
        print_json({"agents": written, "remarks": remarks})
    if not written:
        raise StigmerError(
            f"could not import {path!r}: nothing in it became an agent",
            "name a file, or a folder with .mcp.json, .claude/, AGENTS.md or docker-agent YAML",
        )
    print_note(f"{plural(len(search.remarks), 'remark')}; next: `stigmer validate -f {output}`")
    if wrong:
        raise StigmerError(f"{plural(wrong, 'agent')} of {len(agents)} could not be carried over")


def _relative(folder: Path, start: Path) -> str:
    way = os.path.relpath(folder.resolve(), start.resolve())
    return way if way.startswith("..") else f"./{way}"


class _Search:
    """What a file or folder holds. Follows no link out of the folder: what it leads to is nobody's agent."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._root = (place if place.is_dir() else place.parent).resolve()
        self.remarks: list[Remark] = []

    def agents(self) -> "list[ImportedAgent]":
        """All agents, each with another name."""
        found = self._of_folder() if self._place.is_dir() else self._of_file()
        names = set[str]()
        for agent in found:
            name, count = agent.name, 1
            while agent.name in names:
                count += 1
                agent.name = f"{name[:58]}-{count}"
            names.add(agent.name)
        return found

    def _of_file(self) -> "list[ImportedAgent]":
        file, name = self._place, self._place.name
        if name == "SKILL.md":
            return [self._plain_agent(file, skills=[file.parent])]
        if name in ("AGENTS.md", "CLAUDE.md"):
            text = self._instructions(file)
            return [self._plain_agent(file, text)] if text else []
        if file.suffix == ".md":
            return self._claude_agents([file], _NO_SERVERS, {})
        if file.suffix in (".yaml", ".yml"):
            return self._docker_agents([file])
        servers = self._servers([file])
        return [self._plain_agent(file, servers=servers)] if servers else []

    def _of_folder(self) -> "list[ImportedAgent]":
        place = self._place
        servers = self._servers(place / name for name in _MCP_FILES)
        skills = {
            file.parent.name: file.parent
            for base in (".claude/skills", ".agents/skills", "skills")
            for file in self._files(place / base, "*/SKILL.md")
            if self._is_inside(file)
        }
        if (place / "SKILL.md").is_file():
            skills[place.resolve().name] = place
        instructions = [file for file in (place / name for name in _INSTRUCTIONS) if file.is_file()]
        for file in instructions[1:]:
            self._remark(file, f"was passed over: the instructions are those of {instructions[0].name}")
        rules = self._claude_rules(place / ".claude" / "settings.json")
        found = list["ImportedAgent"]()
        if servers or skills or instructions or rules:
            text = self._instructions(instructions[0]) if instructions else ""
            agent = self._plain_agent(
                instructions[0] if text else place, text, servers, [skills[name] for name in sorted(skills)]
            )
            if rules:
                agent.spec["approval"] = rules
            found.append(agent)
        found += self._claude_agents(self._files(place / ".claude" / "agents", "**/*.md"), servers, skills)
        yaml_files = [*self._files(place, "*.yaml"), *self._files(place, "*.yml")]
        found += self._docker_agents(yaml_files)
        for file in self._files(place / ".claude" / "commands", "**/*.md"):
            self._remark(file, "was not carried over: give its text to `stigmer run`")
        return found

    # --- kinds of files ---------------------------------------------------------------------------

    def _plain_agent(
        self,
        source: Path,
        instructions: str = "",
        servers: "list[dict[str, JsonValue]] | None" = None,
        skills: list[Path] | None = None,
    ) -> "ImportedAgent":
        """An agent for what is no agent yet."""
        from stigmer_cli.foreign_agents import ImportedAgent, agent_name

        agent = ImportedAgent(agent_name(self._root.name), str(source), skills=skills or [])
        agent.spec["instructions"] = instructions or _PLAIN_INSTRUCTIONS
        agent.spec["tools"] = ["shell", "files"]
        if instructions and source.name == "AGENTS.md":
            agent.spec["context"] = {"agentsFile": False}  # or it would be told twice
        if servers:
            agent.spec["mcpServers"] = [*servers]
        return agent

    def _instructions(self, file: Path) -> str:
        from stigmer_cli.foreign_agents import read_instructions

        document = self._read(file, read_instructions)
        self._take_remarks(document)
        return "" if document is None else f"{document.value}"

    def _servers(self, files: Iterable[Path]) -> "list[dict[str, JsonValue]]":
        from stigmer_cli.foreign_agents import read_foreign_json, read_mcp_servers

        servers = dict[str, dict[str, "JsonValue"]]()
        for file in files:
            document = self._read(file, read_foreign_json, quietly=self._place.is_dir())
            for server in [] if document is None else read_mcp_servers(document):
                if servers.setdefault(f"{server['name']}", server) is not server:
                    self._remark(file, f"{server['name']!r} was passed over: another file has that server")
            self._take_remarks(document)
        return list(servers.values())

    def _claude_rules(self, file: Path) -> "list[JsonValue]":
        from stigmer_cli.foreign_agents import read_claude_settings, read_foreign_json

        document = self._read(file, read_foreign_json, quietly=True)
        rules = [] if document is None else read_claude_settings(document)
        self._take_remarks(document)
        return rules

    def _claude_agents(
        self, files: Iterable[Path], servers: "list[dict[str, JsonValue]]", skills: dict[str, Path]
    ) -> "list[ImportedAgent]":
        from stigmer_cli.foreign_agents import ClaudeAgents, read_claude_agent

        shared, found = ClaudeAgents(servers, skills), list["ImportedAgent"]()
        for file in files:
            read = self._read(file, lambda content, source: read_claude_agent(content, source, shared))
            if read is not None:
                agent, document = read
                self._take_remarks(document)
                if agent is not None:
                    found.append(agent)
        return found

    def _docker_agents(self, files: Iterable[Path]) -> "list[ImportedAgent]":
        from stigmer_cli.foreign_agents import is_docker_agents, read_docker_agents, read_foreign_yaml

        found = list["ImportedAgent"]()
        for file in files:
            if self._place.is_dir() and not self._read(file, _names_agents):
                continue
            document = self._read(file, read_foreign_yaml)
            if document is None:
                continue
            if is_docker_agents(document):
                found += read_docker_agents(document, file.stem)
                self._take_remarks(document)
            elif not self._place.is_dir():
                self._remark(file, "is no YAML of docker-agent: it has no `agents`")
        return found

    # --- reading ----------------------------------------------------------------------------------

    def _files(self, folder: Path, pattern: str) -> list[Path]:
        if not folder.is_dir() or not self._is_inside(folder):
            return []
        found = sorted(file for file in folder.glob(pattern) if file.is_file())
        if len(found) > MAX_FILES:
            self._remark(folder, f"has more than {MAX_FILES} files; the others were passed over")
        return found[:MAX_FILES]

    def _is_inside(self, file: Path) -> bool:
        is_inside = file.resolve().is_relative_to(self._root)
        if not is_inside:
            self._remark(file, "was passed over: it is a link out of the folder")
        return is_inside

    def _read(
        self, file: Path, read: Callable[[bytes, str], _ReadT], *, quietly: bool = False
    ) -> _ReadT | None:
        """What a file holds; None where it cannot be read, which is remarked, or is not there."""
        from stigmer_cli.commands.shared_files import read_file

        if quietly and not os.path.lexists(file):
            return None
        if self._place.is_dir() and not self._is_inside(file):
            return None
        try:
            return read(read_file(file), str(file))
        except OSError as error:
            self._remark(file, f"could not be read: {error.strerror}")
        except ValueError as error:
            self._remark(file, f"could not be read: {error}")
        return None

    def _take_remarks(self, document: "ForeignDocument | None") -> None:
        if document is not None:
            self.remarks += document.remarks

    def _remark(self, file: Path, message: str) -> None:
        from stigmer_cli.foreign_agents import Remark

        self.remarks.append(Remark(str(file), 1, "", message))


def _names_agents(content: bytes, source: str) -> bool:
    """Whether a YAML file may be one of docker-agent's: a project has many others."""
    return content.startswith(b"agents:") or b"\nagents:" in content


_NO_SERVERS: "list[dict[str, JsonValue]]" = []

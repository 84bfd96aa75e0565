"""The toolset `skills`: what an agent can read up on, by the open standard (agentskills.io).

The model is told names and descriptions; it loads the instructions of one when it needs them, and reads files
of it then. Commands find all skills beneath `$SKILLS`, to read and to execute; nobody can change them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.toolsets import FunctionToolset

from agent_runner.errors import AttemptSuperseded, ExecutionFailure, ServerRefused
from agent_runner.workspace import PackFolders
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.errors import ManifestError, PackError
from stigmer_contract.manifest import AgentSpec
from stigmer_contract.packs import check_path
from stigmer_contract.skill_documents import SKILL_FILE, read_skill

LOAD_TOOL: Final = "load_skill"
READ_TOOL: Final = "read_skill_file"
SKILL_TOOLS: Final = frozenset({LOAD_TOOL, READ_TOOL})
"""All of them only read."""
SKILLS_VARIABLE: Final = "SKILLS"
MAX_SHOWN_CHARACTERS: Final = 50_000
MAX_LISTED_FILES: Final = 200


def skills_catalogue(spec: AgentSpec) -> str | None:
    """What the model is told of its skills before it loads any; the same for one version of the agent."""
    if not spec.skills:
        return None
    lines = [f"- {skill.name}: {' '.join((skill.description or '').split())}" for skill in spec.skills]
    return (
        "You have skills: instructions for certain work. Before you do work that one of them is for, load it "
        f"with `{LOAD_TOOL}`, and follow it.\n" + "\n".join(lines)
    )


class SkillFolders:
    """The skills of an agent as one folder, in which each has a folder of its name."""

    def __init__(self, spec: AgentSpec, packs: PackFolders) -> None:
        """Does nothing until a folder is asked for.

        Raises:
            ExecutionFailure: the manifest came here without the files of a skill.
        """
        for what in spec.unpacked:
            raise ExecutionFailure(
                ErrorCode.INVALID_MANIFEST,
                f"{what} was not packed with the manifest",
                "apply the agent with `stigmer apply`, or run it with `stigmer run`",
            )
        self._packs = packs
        self._references = {f"{skill.name}": f"{skill.pack}".removeprefix("sha256:") for skill in spec.skills}

    @property
    def names(self) -> Sequence[str]:
        """Of all skills."""
        return list(self._references)

    async def folder(self) -> Path | None:
        """The folder; None: the agent has no skills.

        Raises:
            ToolFailed: it cannot be had.
        """
        if not self._references:
            return None
        try:
            return await self._packs.folder(self._references)
        except AttemptSuperseded:
            raise
        except (PackError, ServerRefused, OSError) as error:
            raise ToolFailed(
                f"the skills cannot be had: {error}. Somebody has to apply the agent again"
            ) from error


def skills_toolset(folders: SkillFolders) -> FunctionToolset[None]:
    """The tools that read skills."""
    toolset = FunctionToolset[None](id="skills")

    async def root_of(skill: str) -> Path:
        if skill not in folders.names:
            raise ModelRetry(f"there is no skill {skill!r}; there are {', '.join(folders.names)}")
        folder = await folders.folder()
        assert folder is not None
        return folder / skill

    async def load_skill(skill: str) -> str:
        """Load the instructions of a skill, and the list of its files.

        Args:
            skill: The skill's name.
        """
        root = await root_of(skill)
        try:
            document = read_skill((root / SKILL_FILE).read_bytes(), SKILL_FILE)
        except (OSError, ManifestError) as error:
            raise ToolFailed(f"the skill cannot be read: {error}") from error
        files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        others = [name for name in files if name != SKILL_FILE]
        text = f"# Skill {skill}\n\n{document.body}"
        if others:
            listed = "\n".join(f"- {name}" for name in others[:MAX_LISTED_FILES])
            more = f"\n- and {len(others) - MAX_LISTED_FILES} more" if len(others) > MAX_LISTED_FILES else ""
            text += (
                f"\n\n---\nFiles of the skill; read one with `{READ_TOOL}`. Commands find them in "
                f"${SKILLS_VARIABLE}/{skill}.\n{listed}{more}"
            )
        return _part_of(text, 0)

    async def read_skill_file(skill: str, path: str, offset: int = 0) -> str:
        """Read a file of a skill.

        Args:
            skill: The skill's name.
            path: The file, relative to the skill's folder.
            offset: How many characters to pass over.
        """
        root = await root_of(skill)
        name = path.removeprefix("./")
        try:
            check_path(name)
            content = (root / name).read_bytes()
        except (PackError, OSError) as error:
            raise ToolFailed(f"the skill has no file {path!r} that can be read") from error
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ToolFailed(f"{path!r} is not text; it has {len(content)} bytes") from error
        return _part_of(text, max(0, offset))

    toolset.add_function(load_skill, name=LOAD_TOOL)
    toolset.add_function(read_skill_file, name=READ_TOOL)
    return toolset


def _part_of(text: str, offset: int) -> str:
    end = offset + MAX_SHOWN_CHARACTERS
    return text[offset:end] + (
        f"\n[{len(text) - end} more characters; go on with offset={end}]" if len(text) > end else ""
    )

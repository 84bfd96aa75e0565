"""The part of the manifest that names skills: instructions that an agent reads when it needs them."""

import re
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from stigmer_contract.manifest_parts import ManifestPart
from stigmer_contract.manifest_scripts import PackReference, check_relative

SKILL_NAME: Final = r"^[a-z0-9]+(-[a-z0-9]+)*$"  # agentskills.io/specification, `name`
MAX_SKILL_NAME: Final = 64
MAX_SKILL_DESCRIPTION: Final = 1024
"""By the standard."""
MAX_TOLD_DESCRIPTION: Final = 8192
"""Of one that is taken in spite of the standard; all of it is in every request."""
_ADDRESS: Final = re.compile(r"(https|ssh|file)://[^\s\x00-\x1f\x7f]+")
_PASSWORD: Final = re.compile(r"[a-z]+://[^/@:]*:[^/@]*@")


def _check_address(address: str) -> str:
    if not _ADDRESS.fullmatch(address):
        raise ValueError(f"{address!r} is not the address of a repository: https://…, ssh://… or file://…")
    if _PASSWORD.match(address):
        raise ValueError("the address holds a password; leave it to git's own credential helpers")
    return address


class Skill(ManifestPart):
    """A skill. A person writes where it is; name, description and pack are written by `stigmer apply`."""

    folder: str | None = Field(default=None, min_length=1)
    """Folder with a `SKILL.md`, relative to the manifest; with `git`: in the repository, default its root."""
    git: Annotated[str, AfterValidator(_check_address)] | None = Field(
        default=None, max_length=2048, examples=["https://github.com/anthropics/skills"]
    )
    """Address of a git repository that has the folder."""
    commit: str | None = Field(default=None, pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")
    """The commit of the repository, by its full id: a branch or a tag may move."""
    name: str | None = Field(default=None, pattern=SKILL_NAME, max_length=MAX_SKILL_NAME)
    """Its name, as `SKILL.md` says it."""
    description: str | None = Field(default=None, min_length=1, max_length=MAX_TOLD_DESCRIPTION)
    """What it is for, as `SKILL.md` says it."""
    pack: PackReference | None = None
    """Its files as they were packed."""

    @model_validator(mode="after")
    def _is_found(self) -> "Skill":
        packed = (self.name, self.description, self.pack)
        if any(part is None for part in packed) and (
            (self.folder is None and self.git is None) or any(packed)
        ):
            raise ValueError("name a folder with a SKILL.md; or name, description and pack together")
        if (self.git is None) != (self.commit is None):
            raise ValueError("give git and commit together: a commit does not change, a branch does")
        if self.git is not None and self.folder is not None:
            check_relative(self.folder)
        return self

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return f"{self.folder}" if self.git is None else f"{self.git}@{self.commit}:{self.folder or ''}"


def _of_folder(value: object) -> object:
    return {"folder": value} if isinstance(value, str) else value


WrittenSkill: TypeAlias = Annotated[Skill, BeforeValidator(_of_folder, json_schema_input_type=str | Skill)]
"""A skill, or its folder alone."""

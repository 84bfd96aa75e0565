"""Image references: their parts, as the distribution specification names them. Asks nobody."""

import re
from dataclasses import dataclass
from typing import Self

DEFAULT_REGISTRY = "docker.io"
_LOOPBACK = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?")
# The grammar of github.com/distribution/reference v0.6, without its rarer forms.
_PATTERN = re.compile(
    r"(?:(?P<registry>localhost(?::\d+)?|\[[0-9a-fA-F:]+\](?::\d+)?|[\w.-]+(?:\.[\w-]+|:\d+)[\w.:-]*)/)?"
    r"(?P<repository>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class ImageReference:
    """Which image: `REGISTRY/REPOSITORY[:TAG][@DIGEST]`."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None
    """`sha256:…`; where given, the tag is for people only."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a reference as Docker does: without a registry it means Docker Hub, without a tag `latest`.

        Raises:
            ValueError: it is none.
        """
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not an image reference; write REGISTRY/REPOSITORY:TAG")
        registry, repository = match["registry"] or DEFAULT_REGISTRY, match["repository"]
        if registry == DEFAULT_REGISTRY and "/" not in repository:
            repository = f"library/{repository}"
        tag = match["tag"] or (None if match["digest"] else "latest")
        return cls(registry, repository, tag, match["digest"])

    @property
    def name(self) -> str:
        """Without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest, else the tag."""
        return self.digest or self.tag or "latest"

    @property
    def pinned(self) -> str:
        """As every engine takes it: Podman 4.3 refuses a tag beside a digest."""
        return f"{self.name}@{self.digest}" if self.digest else str(self)

    @property
    def is_on_loopback(self) -> bool:
        """Whether the registry is on this machine, where plain HTTP is usual."""
        return _LOOPBACK.fullmatch(self.registry) is not None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")

"""Container engines, Docker and Podman alike: find one, its images, and containers from description to end.

Knows nothing of Stigmer. Speaks the HTTP API that both engines serve, over their sockets, with the standard
library alone: the PyPI client takes a quarter of a second to import.
"""

from stigmer_cli.containers.container import Container, CreatedContainer, ExitState, RunningContainer
from stigmer_cli.containers.engine import Engine, EngineKind, EngineTraits
from stigmer_cli.containers.finding import find_engine, reopen_engine
from stigmer_cli.containers.images import Image
from stigmer_cli.containers.references import ImageReference
from stigmer_cli.containers.specs import BindMount, ContainerSpec, PublishedPort

__all__ = [
    "BindMount",
    "Container",
    "ContainerSpec",
    "CreatedContainer",
    "Engine",
    "EngineKind",
    "EngineTraits",
    "ExitState",
    "Image",
    "ImageReference",
    "PublishedPort",
    "RunningContainer",
    "find_engine",
    "reopen_engine",
]

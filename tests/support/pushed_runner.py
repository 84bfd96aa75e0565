"""The runner's image in a registry that wants a login, and a person who is logged in."""

import base64
import json
import secrets

from image_registry import PASSWORD, USER, ImageRegistry
from stack_home import StackHome
from stigmer_cli.containers import ContainerSpec, Engine, ImageReference
from stigmer_cli.containers.credentials import Credentials
from stigmer_cli.program_version import program_version


def push_anew(engine: Engine, runner_image: str, reference: ImageReference) -> str:
    """Pushes the runner's image with a label of its own under the reference; answers its id."""
    created = engine.create(ContainerSpec(name=f"stigmer-tests-{secrets.token_hex(4)}", image=runner_image))
    changes = (
        f"LABEL org.opencontainers.image.version={program_version()}\nLABEL unlike={secrets.token_hex(8)}"
    )
    query = {"container": created.container_id, "repo": reference.name, "tag": "1", "changes": changes}
    try:
        engine.api.call("commit", "POST", "/commit", query=query, body={}, timeout_seconds=120)
    finally:
        created.remove()
    push(engine, reference, Credentials(reference.registry, USER, PASSWORD))
    image = engine.images.find(str(reference))
    assert image is not None
    return image.image_id


def push(engine: Engine, reference: ImageReference, credentials: Credentials | None = None) -> None:
    """Pushes what the engine has under the reference, whose tag is `1`."""
    with engine.api.stream(
        "push",
        "POST",
        f"/images/{reference.name}/push",
        query={"tag": "1", "tlsVerify": "false"},
        headers={"X-Registry-Auth": credentials.header() if credentials else "e30="},
    ) as stream:
        assert not [document for document in stream.documents() if "error" in document]


def log_in(home: StackHome, registry: ImageRegistry) -> None:
    """As `docker login` would, for that home alone."""
    folder = home.path.parent / "docker"
    folder.mkdir()
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": pair}}}))
    home.environment["DOCKER_CONFIG"] = str(folder)

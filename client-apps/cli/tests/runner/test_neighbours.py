"""What stands beside the contained runner on this machine: another stack, an Ollama, a model behind TLS."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
import yaml

from executions import agent_manifest
from model_server import VALID_KEY, ModelServer, ScriptedModel, ScriptedTurn
from stack_home import StackHome
from stigmer_cli.containers import Container, Engine
from stigmer_cli.runner.inspection import find_own_containers
from tls_front import TlsFront

pytestmark = pytest.mark.timeout(600)

KEY_OF_OLLAMA = "no-key"
"""What is sent in place of a key, as Ollama wants none."""
SAYING_DONE = ScriptedModel([ScriptedTurn(text="Done.")])


def _agent(folder: Path, model: str) -> str:
    path = folder / "agent.yaml"
    path.write_text(yaml.safe_dump(agent_manifest(model=model)), encoding="utf-8")
    return str(path)


def test_a_stop_ends_the_container_of_its_own_home_only(
    make_contained_home: Callable[[str], StackHome], engine: Engine
) -> None:
    def containers(home: StackHome) -> list[Container]:
        return find_own_containers(engine, str(home.path))

    one, other = make_contained_home("one"), make_contained_home("other")
    one.start()
    other.start()
    (of_one,), (of_other,) = containers(one), containers(other)
    assert of_one.container_id != of_other.container_id

    assert one.stigmer("server", "stop").returncode == 0
    assert (containers(one), one.processes()) == ([], [])
    (left,) = containers(other)
    assert left.container_id == of_other.container_id
    assert (left.inspect().is_running, other.status()["ready"]) == (True, True)

    assert other.stigmer("server", "stop").returncode == 0
    assert (containers(other), other.processes()) == ([], [])


def test_an_ollama_on_this_machines_loopback_is_reached(contained_home: StackHome, tmp_path: Path) -> None:
    with ModelServer(SAYING_DONE, key=KEY_OF_OLLAMA) as model:
        contained_home.environment["OLLAMA_BASE_URL"] = f"http://127.0.0.1:{model.port}"
        completed = contained_home.stigmer("run", _agent(tmp_path, "ollama:qwen3"), "Do it.")
    assert completed.returncode == 0, completed.stderr
    assert contained_home.status()["contained"] is True
    assert len(model.bodies) == 1


def test_a_model_of_an_unknown_authority_is_trusted_only_with_a_bundle_that_holds_it(
    contained_home: StackHome, tmp_path: Path
) -> None:
    authority, bundle = trustme.CA(), tmp_path / "authorities.pem"
    authority.cert_pem.write_to_path(bundle)
    agent = _agent(tmp_path, "openai:gpt-5")
    with ModelServer(SAYING_DONE) as model, TlsFront(model.port, authority) as front:
        contained_home.environment |= {
            "OPENAI_BASE_URL": f"https://localhost:{front.port}/v1",
            "OPENAI_API_KEY": VALID_KEY,
        }
        doubting = contained_home.stigmer("run", agent, "Do it.")
        assert (doubting.returncode, len(model.bodies)) == (1, 0)
        assert "the certificate of the model's endpoint is not trusted: " in doubting.stderr
        assert "`stigmer config set caBundle FILE`, then `stigmer server restart`" in doubting.stderr

        assert contained_home.stigmer("config", "set", "caBundle", str(bundle)).returncode == 0
        assert contained_home.stigmer("server", "restart").returncode == 0
        trusting = contained_home.stigmer("run", agent, "Do it.")
        assert trusting.returncode == 0, trusting.stderr
        assert (contained_home.status()["contained"], len(model.bodies)) == (True, 1)

"""MCP servers that are published packages, as manifests name them."""

import pytest
from pydantic import ValidationError

from stigmer_contract.manifest import AgentSpec
from stigmer_contract.manifest_mcp import McpServer
from stigmer_contract.manifest_packages import NamedPackage, read_package
from stigmer_contract.tool_lists import server_digest

PACKAGE = "npm:@modelcontextprotocol/server-everything@2025.9.12"
DIGEST = "a" * 64
FETCHED = {"program": "node_modules/a/index.js", "packs": {"node_modules": f"sha256:{DIGEST}"}}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (PACKAGE, NamedPackage("@modelcontextprotocol/server-everything", "2025.9.12")),
        ("npm:mcp-thing@1.0.0-beta.2", NamedPackage("mcp-thing", "1.0.0-beta.2")),
    ],
)
def test_a_package_has_a_name_and_one_version(text: str, named: NamedPackage) -> None:
    assert read_package(text) == named


@pytest.mark.parametrize(
    "text",
    [
        "npm:thing",
        "npm:thing@latest",
        "npm:thing@^1.0.0",
        "npm:thing@1",
        "npm:--global@1.0.0 x",
        "npm:../thing@1.0.0",
        "npm:@a/b/c@1.0.0",
        "npm:thing@1.0.0\n",
        "thing@1.0.0",
        "npm:" + "a" * 100_000,
    ],
)
def test_what_is_no_package_of_one_version_is_refused_with_what_would_be(text: str) -> None:
    with pytest.raises(ValidationError, match="write npm:NAME@VERSION"):
        McpServer.model_validate({"name": "a", "package": text})


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"command": ["a"], "package": PACKAGE},
        {"package": PACKAGE, "url": "https://a.example"},
    ],
)
def test_a_server_is_one_of_command_package_and_url(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="exactly one of command, package and url"):
        McpServer.model_validate({"name": "a", **fields})


def test_arguments_without_a_package_are_refused() -> None:
    with pytest.raises(ValidationError, match="are for `package`"):
        McpServer.model_validate({"name": "a", "command": ["a"], "args": ["b"]})


@pytest.mark.parametrize("path", ["../a", "/a", "a//b", "a/./b", "a\\b", ""])
def test_what_was_fetched_lies_beneath_its_folder(path: str) -> None:
    for fetched in (FETCHED | {"program": path}, FETCHED | {"packs": {path: f"sha256:{DIGEST}"}}):
        with pytest.raises(ValidationError):
            McpServer.model_validate({"name": "a", "package": PACKAGE, "fetched": fetched})


def test_an_agent_names_the_packs_of_its_packages_and_what_was_not_fetched() -> None:
    servers = [{"name": "a", "package": PACKAGE, "env": {"A": "b"}, "network": "web", "args": ["x"]}]
    spec = AgentSpec.model_validate({"instructions": "Work.", "mcpServers": servers})
    assert (spec.packs, spec.unpacked) == ([], [f"the package {PACKAGE!r}"])
    fetched = AgentSpec.model_validate(
        {"instructions": "Work.", "mcpServers": [servers[0] | {"fetched": FETCHED}]}
    )
    assert (fetched.packs, fetched.unpacked) == ([DIGEST], [])


def test_another_package_is_another_server_and_a_command_is_the_one_it_was() -> None:
    one, other = (
        McpServer.model_validate({"name": "a", "package": f"npm:a@1.0.{patch}"}) for patch in (0, 1)
    )
    assert server_digest(one) != server_digest(other)
    # Pins of servers that were pinned before there were packages stay theirs.
    old = McpServer.model_validate({"name": "a", "command": ["b", "c"], "env": {"D": "e"}})
    assert server_digest(old) == "9477d3f89bc6cc140ae490a5221af4a3"

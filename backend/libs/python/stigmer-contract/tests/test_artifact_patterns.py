"""Which patterns `spec.artifacts` takes."""

import json

import pytest

from stigmer_contract.errors import ManifestError
from stigmer_contract.manifest_reader import read_manifests

HEAD = """\
apiVersion: agentic.stigmer.ai/v1
kind: Agent
metadata: {name: writer}
spec:
  instructions: Write.
"""


def manifest(*patterns: str) -> str:
    return f"{HEAD}  artifacts: {json.dumps(patterns)}\n"


@pytest.mark.parametrize(
    "pattern",
    ["report.md", "out/**", "./a", "a b", "{a,b}/*.csv", "[!a]", "[]]", "a\\*b", "ü/*", "..a/b.."],
)
def test_a_pattern_is_taken_as_it_is(pattern: str) -> None:
    [agent] = read_manifests(manifest(pattern), "agent.yaml")
    assert agent.spec.artifacts == [pattern]


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("", "a pattern has 1 to 1000 characters"),
        ("a" * 1001, "a pattern has 1 to 1000 characters"),
        ("/etc/passwd", "'/etc/passwd' is not a path in the workspace; write it as from there: out/**"),
        ("~/x", "'~/x' is not a path in the workspace; write it as from there: out/**"),
        ("!x", "'!x' is not a path in the workspace; write it as from there: out/**"),
        ("out/../../x", "'out/../../x' leads out of the workspace"),
        (".git/config", "'.git/config' names what is never collected: .git and .stigmer"),
        ("a\tb", "'a\\tb' holds a control character"),
        ("[ab", "'[ab' opens a bracket that it does not close"),
        ("{a,b", "'{a,b' opens a brace that it does not close"),
        ("a}", "'a}' closes a brace that it does not open"),
        ("a\\", "'a\\\\' ends with a backslash"),
    ],
)
def test_a_pattern_that_is_none_is_told_with_its_place(pattern: str, problem: str) -> None:
    with pytest.raises(ManifestError) as raised:
        read_manifests(manifest(pattern), "agent.yaml")
    [found] = raised.value.problems
    assert str(found) == f"agent.yaml:6:15: spec.artifacts[0]: {problem}"


def test_a_pattern_that_stands_there_twice_is_refused() -> None:
    with pytest.raises(ManifestError, match="names 'a' twice"):
        read_manifests(manifest("a", "a"), "agent.yaml")

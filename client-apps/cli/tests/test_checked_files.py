"""What a test looks into is a regular file: an agent can make others, and some of them are read for ever."""

import os
from pathlib import Path

import pytest

from stigmer_cli.agent_tests.checks import Ended, failures
from stigmer_cli.agent_tests.test_file import AgentTest
from stigmer_contract.api import ExecutionResource
from stigmer_contract.events import Usage
from stigmer_contract.phases import ExecutionPhase


@pytest.fixture
def ended(tmp_path: Path) -> Ended:
    """An execution that left a pipe, and a text beside the workspace with a link to it."""
    files = tmp_path / "workspace"
    files.mkdir()
    os.mkfifo(files / "pipe")
    (files / "text").write_text("said", encoding="utf-8")
    (tmp_path / "outside").write_text("secret", encoding="utf-8")
    (files / "link").symlink_to(tmp_path / "outside")
    execution = ExecutionResource.model_construct(phase=ExecutionPhase.COMPLETED, usage=Usage())
    return Ended(execution, None, [], files)


def test_a_judge_is_shown_texts_of_the_workspace_alone(ended: Ended) -> None:
    assert {path: ended.text_of(path) for path in ("text", "pipe", "link", "none")} == {
        "text": "said",
        "pipe": None,
        "link": None,
        "none": None,
    }


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("text", []),
        ("pipe", ["file 'pipe' is no regular file"]),
        ("link", ["file 'link' is not there"]),
    ],
)
def test_a_file_that_is_expected_is_a_regular_one(ended: Ended, path: str, said: list[str]) -> None:
    test = AgentTest.model_validate({"input": "x", "expect": {"files": [{"path": path, "contains": "said"}]}})
    assert failures(test, ended) == said

"""The import rule that holds the workflow's module: what is not on its list is found, wherever it stands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFIGURATION = """
[tool.importlinter]
root_packages = ["strict"]
include_external_packages = true
contract_types = ["allowed_imports: tools.imports.allowed_imports.AllowedImportsContract"]

[[tool.importlinter.contracts]]
name = "only what is allowed"
type = "allowed_imports"
source_modules = ["strict"]
allowed_modules = ["datetime", "pydantic"]
"""


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from datetime import timedelta\nimport pydantic.fields\nimport strict.other\n", None),
        ("import random\n", "strict -> random (l.1)"),
        ("def later() -> None:\n    from time import time\n", "strict -> time (l.2)"),
        ("import pydantic_ai\n", "strict -> pydantic_ai (l.1)"),
    ],
)
def test_only_what_is_on_the_list_is_imported(source: str, found: str | None, tmp_path: Path) -> None:
    package = tmp_path / "strict"
    package.mkdir()
    (package / "__init__.py").write_text(source, encoding="utf-8")
    (package / "other.py").touch()
    configuration = tmp_path / "rules.toml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")

    linted = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--config", configuration],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )

    assert (linted.returncode == 0) is (found is None), linted.stdout + linted.stderr
    assert found is None or f"- {found}" in linted.stdout

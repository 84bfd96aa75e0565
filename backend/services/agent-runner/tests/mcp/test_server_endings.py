"""Why a server did not start: the line of its stderr that tells it, and what may be done."""

import pytest

from agent_runner.mcp_servers.endings import advice_on, telling_line

NPM = """npm error code ENOTCACHED
npm error request to https://registry.example/thing failed: cache mode is 'only-if-cached'
npm error A complete log of this run can be found in: /tmp/x/_logs/debug-0.log
"""
NODE = """node:internal/modules/cjs/loader:1210
  throw err;
  ^

Error: Cannot find module 'nope'
Require stack:
- /work/[eval]
    at Module._resolveFilename (node:internal/modules/cjs/loader:1207:15) {
  code: 'MODULE_NOT_FOUND',
  requireStack: [ '/work/[eval]' ]
}

Node.js v20.20.2
"""
PYTHON = """Traceback (most recent call last):
  File "<string>", line 1, in <module>
ModuleNotFoundError: No module named 'nope'
"""


@pytest.mark.parametrize(
    ("stderr", "line"),
    [
        (NPM, "npm error request to https://registry.example/thing failed: cache mode is 'only-if-cached'"),
        (NODE, "Error: Cannot find module 'nope'"),
        (PYTHON, "ModuleNotFoundError: No module named 'nope'"),
        ("listening\nbye\n", "bye"),
        ("  only this, indented\n", "only this, indented"),
        ("\n---\n}\n", None),
        ("", None),
    ],
)
def test_the_line_that_tells_what_failed_is_shown(stderr: str, line: str | None) -> None:
    assert telling_line(stderr) == line


def test_a_program_that_fetches_without_a_network_is_told_of() -> None:
    assert "`network: none`" in advice_on(["/usr/bin/npx", "-y", "thing"], "none")
    assert advice_on(["npx", "-y", "thing"], "all") == ""
    assert advice_on(["node", "server.js"], "none") == ""

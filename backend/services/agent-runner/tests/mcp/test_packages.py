"""MCP servers that came with the agent as packages: started from files that no agent can change."""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent_runner.legs import ActivityAttempt, LegRunner
from agent_runner.mcp_servers.endings import advice_on
from leg_server import Answer, Server
from mcp_legs import calls, results
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import ExecutionFailed
from stigmer_contract.packs import PackedFile, write_pack

TRY = ActivityAttempt("try-1", b"token")
Make = Callable[[Server, Answer], LegRunner]
PACKAGE = "npm:stock@1.0.0"
PROGRAM = """
const { prices } = require('prices')
const fs = require('fs')
const tool = { name: 'price', inputSchema: { type: 'object', properties: { item: { type: 'string' } } } }
function price (item) {
  if (item !== 'change yourself') return String(prices[item] + Number(process.argv[2]))
  try { fs.appendFileSync(__filename, ' '); return 'changed' } catch (error) { return error.code }
}
function answer (method, params) {
  if (method === 'initialize') {
    return { protocolVersion: params.protocolVersion, capabilities: { tools: {} },
      serverInfo: { name: 'stock', version: '1' } }
  }
  if (method === 'tools/list') return { tools: [tool] }
  return { content: [{ type: 'text', text: price(params.arguments.item) }] }
}
require('readline').createInterface({ input: process.stdin }).on('line', line => {
  const { id, method, params } = JSON.parse(line)
  if (id !== undefined) console.log(JSON.stringify({ jsonrpc: '2.0', id, result: answer(method, params) }))
})
"""


def server_with(packs: Mapping[str, list[PackedFile]]) -> Server:
    """Of an agent that has the package, and whose packs are there."""
    written = {folder: write_pack(files) for folder, files in packs.items()}
    digests = {folder: hashlib.sha256(pack).hexdigest() for folder, pack in written.items()}
    fetched = {
        "program": "node_modules/stock/main.js",
        "packs": {folder: f"sha256:{digest}" for folder, digest in digests.items()},
    }
    entry: dict[str, Any] = {"name": "stock", "package": PACKAGE, "args": ["1"], "fetched": fetched}
    server = Server(mcpServers=[entry])
    server.blobs |= {digests[folder]: pack for folder, pack in written.items()}
    return server


PACKS = {
    "node_modules/stock": [PackedFile("main.js", PROGRAM.encode(), False)],
    "node_modules/prices": [PackedFile("index.js", b"exports.prices = { whisk: 4 }", False)],
}


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js")
async def test_a_package_is_started_with_what_it_needs_and_cannot_be_changed(
    make_runner: Make, workspace: Path
) -> None:
    server = server_with(PACKS)
    asked = [("stock__price", {"item": item}) for item in ("whisk", "change yourself")]
    await make_runner(server, calls(*asked)).run("exe_1", TRY)
    price, change = results(server)
    assert price.text == "5"
    assert change.text in ("EACCES", "EROFS", "EPERM")


async def test_a_package_whose_files_are_gone_is_told_in_one_line(make_runner: Make, workspace: Path) -> None:
    server = server_with(PACKS)
    for digest in list(server.blobs):
        server.blobs[digest] = b"something else"
    await make_runner(server, calls()).run("exe_1", TRY)
    failed = server.events[-1]
    assert isinstance(failed, ExecutionFailed)
    assert failed.code is ErrorCode.MCP_SERVER_UNAVAILABLE
    assert failed.message == (
        "could not start MCP server 'stock': it has another content than its digest says"
    )


def test_where_there_is_no_node_the_line_says_which_image_has_it() -> None:
    assert "`-full`" in advice_on(["node"], "none", is_missing=True)
    assert advice_on(["node"], "none") == ""

"""Artifacts over HTTP: the newest list of an execution, and its files as attachments."""

import hashlib
from typing import Any
from urllib.parse import quote

import pytest

from server_process import ServerApi, failed


def collected(*files: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "artifacts.collected", "files": list(files), **more}


def artifact(api: ServerApi, path: str, content: bytes) -> dict[str, Any]:
    """A file that a runner has stored."""
    return {"path": path, "sha256": api.store_blob(content), "size_bytes": len(content), "masked": False}


def test_an_execution_lists_what_it_left_behind_last(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    nothing: dict[str, Any] = {"items": [], "left_out": [], "further": 0, "unmatched": [], "is_whole": True}
    assert api.http.get(f"/v1/executions/{execution_id}/artifacts").json() == nothing
    attempt = api.start_leg(execution_id)["attempt"]
    first = artifact(api, "report.md", b"first")
    assert api.append(execution_id, [collected(first), failed()], attempt=attempt).is_success
    api.http.post(f"/v1/executions/{execution_id}/retry").raise_for_status()
    attempt = api.start_leg(execution_id)["attempt"]
    second = artifact(api, "report.md", b"second")
    left_out = [{"path": "big.bin", "reason": "it is larger than 64 MiB"}]
    newest = collected(second, left_out=left_out, further=2, unmatched=["out/**"], is_whole=False)
    assert api.append(execution_id, [newest, failed()], attempt=attempt).is_success

    assert api.http.get(f"/v1/executions/{execution_id}/artifacts").json() == {
        "items": [second],
        "left_out": left_out,
        "further": 2,
        "unmatched": ["out/**"],
        "is_whole": False,
    }
    assert api.http.get(f"/v1/executions/{execution_id}/artifacts/report.md").content == b"second"


@pytest.mark.parametrize(
    "path", ["page.html", "out/a b.csv", "a\\x0ab", 'quo"te.txt', "übung/日本.txt", "100%.txt", "a?b#c"]
)
def test_a_file_comes_as_an_attachment_whatever_it_is_called(api: ServerApi, path: str) -> None:
    execution_id = api.create_execution()["execution_id"]
    attempt = api.start_leg(execution_id)["attempt"]
    content = b"<script>alert(1)</script>"
    assert api.append(execution_id, [collected(artifact(api, path, content))], attempt=attempt).is_success

    answer = api.http.get(f"/v1/executions/{execution_id}/artifacts/{quote(path)}")

    assert (answer.status_code, answer.content) == (200, content)
    headers = answer.headers
    name = quote(path.rpartition("/")[2], safe="")
    assert headers["content-disposition"] == f"attachment; filename*=UTF-8''{name}"
    assert headers["content-type"] == "application/octet-stream"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("sandbox;")


@pytest.mark.parametrize(
    "path", ["other.md", "..%2f..%2fetc%2fpasswd", "%2e%2e/report.md", "report.md/", "%00"]
)
def test_what_was_not_kept_is_not_there(api: ServerApi, path: str) -> None:
    execution_id = api.create_execution()["execution_id"]
    attempt = api.start_leg(execution_id)["attempt"]
    files = collected(artifact(api, "report.md", b"mine"))
    assert api.append(execution_id, [files], attempt=attempt).is_success
    answer = api.http.get(f"/v1/executions/{execution_id}/artifacts/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_file_whose_bytes_are_gone_is_not_there(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    attempt = api.start_leg(execution_id)["attempt"]
    missing = {"path": "gone", "sha256": hashlib.sha256(b"never stored").hexdigest(), "size_bytes": 12}
    assert api.append(execution_id, [collected(missing)], attempt=attempt).is_success
    answer = api.http.get(f"/v1/executions/{execution_id}/artifacts/gone")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

"""Blobs over HTTP: what is there is whole and true."""

import hashlib
import os
from collections.abc import Iterator

import httpx
import pytest

from server_process import ServerApi, ServerProcess

LIMIT = 64 * 1024 * 1024


def test_a_blob_comes_back_as_it_was_stored(api: ServerApi) -> None:
    content = os.urandom(3_000_000)
    sha256 = hashlib.sha256(content).hexdigest()

    for _ in range(2):
        stored = api.http.put(f"/v1/blobs/{sha256}", content=content)
        assert (stored.status_code, stored.json()) == (200, {"sha256": sha256, "size_bytes": len(content)})

    assert api.http.get(f"/v1/blobs/{sha256}").content == content


def test_bytes_with_another_digest_are_refused(api: ServerApi) -> None:
    sha256 = hashlib.sha256(b"promised").hexdigest()

    response = api.http.put(f"/v1/blobs/{sha256}", content=b"delivered")

    assert (response.status_code, response.json()["code"]) == (422, "digest_mismatch")
    assert api.http.get(f"/v1/blobs/{sha256}").status_code == 404


def test_a_blob_over_the_limit_is_refused_whether_or_not_its_size_is_told(
    api: ServerApi, server: ServerProcess
) -> None:
    content = bytes(LIMIT + 1)
    sha256 = hashlib.sha256(content).hexdigest()

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(content), 1 << 20):
            yield content[start : start + (1 << 20)]

    told = api.http.put(f"/v1/blobs/{sha256}", content=content)
    try:
        untold = api.http.put(f"/v1/blobs/{sha256}", content=pieces())
    except httpx.TransportError:  # the server may close before it has read all
        untold = told

    assert [(answer.status_code, answer.json()["code"]) for answer in (told, untold)] == [
        (413, "payload_too_large")
    ] * 2
    leftovers = list((server.home / "data" / "blobs").glob(".incoming-*"))
    assert leftovers == []


def test_what_is_no_digest_is_refused(api: ServerApi) -> None:
    for name in ("abc", "A" * 64, "..%2f..%2fetc%2fpasswd", "g" * 64):
        assert api.http.get(f"/v1/blobs/{name}").status_code in (404, 422)
        assert api.http.put(f"/v1/blobs/{name}", content=b"x").status_code in (404, 422)


def test_a_blob_that_is_cut_off_leaves_nothing(api: ServerApi, server: ServerProcess) -> None:
    sha256 = hashlib.sha256(b"whole").hexdigest()

    def broken() -> Iterator[bytes]:
        yield b"who"
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        api.http.put(f"/v1/blobs/{sha256}", content=broken())

    assert api.http.get(f"/v1/blobs/{sha256}").status_code == 404
    assert not (server.home / "data" / "blobs" / sha256[:2] / sha256).exists()

"""Asks `grpc.health.v1.Health/Check` over plain HTTP/2 with sockets alone: this one call only.

A gRPC library would cost the command line 100 ms and more at every start. Frames are those of RFC 9113,
header fields of RFC 7541 (literal, never indexed), messages of the gRPC health checking protocol, version 1.
"""

import socket
import struct
import time

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _GO_AWAY = 0x0, 0x1, 0x3, 0x4, 0x7
_END_STREAM, _END_HEADERS, _ACKNOWLEDGE = 0x1, 0x4, 0x1
_STREAM = 1
_MAX_FRAME_BYTES = 16_384
_SERVING = b"\x00\x00\x00\x00\x02\x08\x01"
"""A message of 2 bytes, not compressed: field 1, `status`, is 1, `SERVING`."""


def is_serving(host: str, port: int, service: str, timeout_seconds: float) -> bool:
    """Whether the gRPC service says that it serves.

    Raises:
        OSError: nobody answers there, or not in time.
    """
    deadline = time.monotonic() + timeout_seconds
    with socket.create_connection((host, port), timeout_seconds) as connection:
        connection.sendall(_request(f"{host}:{port}", service))
        answer = b""
        while True:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            kind, flags, payload = _read_frame(connection)
            if kind == _SETTINGS and not flags & _ACKNOWLEDGE:
                connection.sendall(_frame(_SETTINGS, _ACKNOWLEDGE, 0, b""))
            elif kind == _DATA:
                answer += payload
                if len(answer) >= len(_SERVING):
                    return answer == _SERVING
            elif kind in (_RESET, _GO_AWAY) or (kind == _HEADERS and flags & _END_STREAM):
                return False  # an error status came instead of an answer


def _request(authority: str, service: str) -> bytes:
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    header_block = b"".join(b"\x00" + _string(name) + _string(value) for name, value in fields)
    message = b"\x0a" + _string(service)  # field 1, `service`
    return b"".join(
        (
            _PREFACE,
            _frame(_SETTINGS, 0, 0, b""),
            _frame(_HEADERS, _END_HEADERS, _STREAM, header_block),
            _frame(_DATA, _END_STREAM, _STREAM, struct.pack(">BI", 0, len(message)) + message),
        )
    )


def _string(text: str) -> bytes:
    # Below 127 bytes the length is one byte, in HPACK without Huffman coding and in protobuf alike.
    encoded = text.encode("ascii")
    if len(encoded) > 126:
        raise OSError(f"the name {text!r} is too long to ask for")
    return bytes([len(encoded)]) + encoded


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _read_frame(connection: socket.socket) -> tuple[int, int, bytes]:
    header = _read_exactly(connection, 9)
    length = int.from_bytes(header[:3], "big")
    if length > _MAX_FRAME_BYTES:
        raise ConnectionError("what answers there does not speak HTTP/2")
    return header[3], header[4], _read_exactly(connection, length)


def _read_exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        chunk = connection.recv(count - len(received))
        if not chunk:
            raise ConnectionError("the connection was closed")
        received += chunk
    return received

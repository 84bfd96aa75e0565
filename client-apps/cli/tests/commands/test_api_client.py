"""The reader of events and the calls, over networks and servers that fail."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cli_harness import TOKEN, Leg, Server, free_port, running_server
from cutting_proxy import CuttingProxy
from stigmer_cli.api_client import ApiClient, HttpTransport, event_stream, follow_events
from stigmer_cli.api_client.sse import SseMessage, SseParser
from stigmer_cli.config import Connection
from stigmer_cli.errors import CallRefused, ServerUnreachable
from stigmer_contract import events
from stigmer_contract.api import CreateExecution
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.http_statuses import RETRYABLE_STATUSES
from stigmer_contract.manifest import AgentManifest
from swallowing_proxy import SwallowingProxy

AGENT = AgentManifest.model_validate(
    {
        "apiVersion": "agentic.stigmer.ai/v1",
        "kind": "Agent",
        "metadata": {"name": "greeter"},
        "spec": {"instructions": "Greet."},
    }
)

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=20)
_MESSAGES = st.lists(
    st.builds(
        SseMessage,
        event=_TEXT.map(lambda name: name.strip(" ") or "message"),
        data=st.lists(_TEXT, min_size=1, max_size=4).map("\n".join),
        id=st.none() | _TEXT,
    ),
    max_size=5,
)


@given(
    _MESSAGES,
    st.sampled_from(["\n", "\r", "\r\n"]),
    st.lists(st.integers(1, 12), min_size=1),
    st.booleans(),
)
@example([SseMessage("message", "a", None)], "\r\n", [1], False)
def test_messages_are_read_from_pieces_of_any_size(
    messages: list[SseMessage], line_end: str, sizes: list[int], has_comments: bool
) -> None:
    lines: list[str] = []
    for message in messages:
        lines += [": a comment"] if has_comments else []
        lines += [f"event: {message.event}", *(f"data: {line}" for line in message.data.split("\n"))]
        lines += [f"id: {message.id}"] if message.id is not None else []
        lines += ["retry: 10", "unknown", ""]
    content = "".join(line + line_end for line in lines).encode()

    parser, read, position, step = SseParser(), list[SseMessage](), 0, 0
    while position < len(content):
        size = sizes[step % len(sizes)]
        read += parser.feed(content[position : position + size])
        position, step = position + size, step + 1

    assert read == messages


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_no_bytes_break_the_reader(chunks: list[bytes]) -> None:
    parser = SseParser()

    for chunk in chunks:
        list(parser.feed(chunk))


def test_a_large_frame_in_small_pieces_is_read() -> None:
    parser, data = SseParser(), "x" * 2_000_000
    frame = f"id: 1\ndata: {data}\n\n".encode()

    read = [
        message
        for start in range(0, len(frame), 1000)
        for message in parser.feed(frame[start : start + 1000])
    ]

    assert read == [SseMessage("message", data, "1")]


def _start_execution(server: Server) -> str:
    execution = server.client.create_execution(CreateExecution(manifest=AGENT, input="Hello"))
    return execution.execution_id


def test_every_event_comes_once_and_in_order_over_a_connection_that_keeps_breaking(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "FIRST_BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(event_stream, "LONGEST_BACKOFF_SECONDS", 0.01)
    execution_id = _start_execution(server)
    leg = server.take_execution(execution_id)

    def work() -> None:
        for turn in range(1, 61):
            leg.write(turn, "some text")
            leg.answer(turn, f"text of turn {turn}")
        leg.complete("done")

    worker = threading.Thread(target=work)
    with CuttingProxy(server.port, cuts=25, longest=2500, seed=7) as proxy:
        worker.start()
        transport = HttpTransport(Connection(f"http://127.0.0.1:{proxy.port}", TOKEN))
        read = list(follow_events(transport, execution_id))
        cuts_left = proxy.cuts_left
    worker.join()

    recorded = [event for event in read if isinstance(event, events.RecordedEvent)]
    assert [event.sequence for event in recorded] == list(range(1, 64))
    assert recorded == list(server.client.read_events(execution_id))
    assert cuts_left == 0


def test_a_watch_survives_a_server_that_is_killed_and_started_again(tmp_path: Path) -> None:
    port = free_port()
    reported: list[str] = []
    read: list[events.RecordedEvent | events.LiveEvent] = []
    with running_server(tmp_path, port) as server:
        execution_id = _start_execution(server)
        leg = server.take_execution(execution_id)
        transport = HttpTransport(Connection(f"http://127.0.0.1:{port}", TOKEN))
        reader = follow_events(transport, execution_id, report=reported.append)
        leg.answer(1, "one")
        read += [next(reader) for _ in range(3)]
    reconnecting = threading.Thread(target=lambda: read.extend(reader))
    reconnecting.start()
    while not reported:
        reconnecting.join(timeout=0.02)
    with running_server(tmp_path, port) as server:
        same_leg = Leg(server.client, leg.grant)
        same_leg.answer(2, "two")
        same_leg.complete("done")
        reconnecting.join(timeout=60)

    assert [event.sequence for event in read if isinstance(event, events.RecordedEvent)] == [1, 2, 3, 4, 5]
    assert reported[0].startswith("connection to the server lost (")
    assert reported[1:] == ["connected again"]


def test_a_stream_that_swallows_everything_is_left_for_another_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "STREAM_SILENCES", 1.0)
    execution_id = _start_execution(server)
    leg = server.take_execution(execution_id)
    leg.answer(1, "one")
    with SwallowingProxy(server.port) as proxy:
        transport = HttpTransport(Connection(f"http://127.0.0.1:{proxy.port}", TOKEN))
        reader = follow_events(transport, execution_id)
        recorded = (event for event in reader if isinstance(event, events.RecordedEvent))
        read = [next(recorded).sequence for _ in range(3)]
        assert proxy.swallow() >= 1
        leg.complete("done")
        read += [event.sequence for event in recorded]

    assert read == [1, 2, 3, 4]


def test_the_reader_gives_up_when_the_server_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "GIVE_UP_AFTER_SECONDS", 0.2)
    monkeypatch.setattr(event_stream, "LONGEST_BACKOFF_SECONDS", 0.1)
    transport = HttpTransport(Connection(f"http://127.0.0.1:{free_port()}", TOKEN))

    with pytest.raises(ServerUnreachable) as raised:
        list(follow_events(transport, "exe_1"))

    assert raised.value.reason == "nothing answers there"
    assert raised.value.hint == "run `stigmer executions follow exe_1` once the server is back"


def test_an_execution_that_does_not_exist_is_refused_at_once(server: Server) -> None:
    transport = HttpTransport(Connection(f"http://127.0.0.1:{server.port}", TOKEN))

    with pytest.raises(CallRefused) as raised:
        list(follow_events(transport, "exe_1"))

    assert raised.value.code == ErrorCode.NOT_FOUND


def test_a_wrong_token_is_refused(server: Server) -> None:
    with (
        ApiClient(Connection(f"http://127.0.0.1:{server.port}", "wrong")) as client,
        pytest.raises(CallRefused) as raised,
    ):
        client.list_agents(1)

    assert raised.value.code == ErrorCode.UNAUTHENTICATED


def test_calls_are_repeated_over_a_breaking_connection_and_create_one_execution(server: Server) -> None:
    before = len(server.client.list_executions(10_000))
    with (
        CuttingProxy(server.port, cuts=3, longest=50, seed=3) as proxy,
        ApiClient(Connection(f"http://127.0.0.1:{proxy.port}", TOKEN)) as client,
    ):
        execution = client.create_execution(CreateExecution(manifest=AGENT, input="Hello"))

    assert len(server.client.list_executions(10_000)) == before + 1
    server.take_execution(execution.execution_id).complete("done")


def test_calls_of_several_threads_get_each_its_own_answer(server: Server) -> None:
    ids = [_start_execution(server) for _ in range(4)]
    for execution_id in ids:
        server.take_execution(execution_id).complete("done")

    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(server.client.get_execution, ids[number % 4]) for number in range(80)]

    assert [answer.result().execution_id for answer in asked] == ids * 20


def test_lists_go_on_over_pages(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stigmer_cli.api_client.client.PAGE_SIZE", 2)
    ids = [_start_execution(server) for _ in range(5)]
    for execution_id in ids:
        server.take_execution(execution_id).complete("done")

    listed = [execution.execution_id for execution in server.client.list_executions(5)]
    log = list(server.client.read_events(ids[0]))

    assert listed == ids[::-1]
    assert [event.sequence for event in log] == [1, 2, 3]


def test_something_else_at_the_servers_port_is_told(tmp_path: Path) -> None:
    import http.server

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404, "Nothing here")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        with (
            ApiClient(Connection(f"http://127.0.0.1:{other.server_port}", TOKEN)) as client,
            pytest.raises(CallRefused) as raised,
        ):
            client.get_agent("x")
        other.shutdown()
        thread.join()

    assert raised.value.message == "the server answered with HTTP status 404"
    assert raised.value.code == "unknown"


@pytest.mark.parametrize("status", sorted(RETRYABLE_STATUSES))
def test_a_call_that_may_work_a_moment_later_is_made_again(status: int) -> None:
    import http.server

    log = [
        '{"sequence":1,"recorded_at":"2026-11-26T12:00:00Z","event":{"type":"execution.cancelled"}}',
    ]
    left = {"/v1/agents": 1, "/v1/executions/exe_1/events": 1}

    class Busy(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if left[path]:
                left[path] -= 1
                self._answer(status, b"{}")
            elif path == "/v1/agents":
                self._answer(200, b'{"items": [], "next_cursor": null}')
            else:
                self._answer(200, "".join(f"id: 1\nevent: x\ndata: {line}\n\n" for line in log).encode())

        def _answer(self, code: int, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy) as busy:
        thread = threading.Thread(target=busy.serve_forever)
        thread.start()
        try:
            connection = Connection(f"http://127.0.0.1:{busy.server_port}", TOKEN)
            with ApiClient(connection) as client:
                assert client.list_agents(1) == []
            [event] = list(follow_events(HttpTransport(connection), "exe_1"))
        finally:
            busy.shutdown()
            thread.join()

    assert isinstance(event, events.RecordedEvent)
    assert left == {"/v1/agents": 0, "/v1/executions/exe_1/events": 0}

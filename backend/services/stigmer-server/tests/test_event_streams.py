"""Event streams: replay, then follow, every event once and in order, whatever happens to the reader."""

import itertools
import json
import random
import socket
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from server_process import TOKEN, ServerApi, ServerProcess, completed, responded
from stigmer_contract.events import EVENT_ADAPTER, LIVE_EVENT_ADAPTER, RecordedEvent

STREAM = {"Accept": "text/event-stream"}
TERMINAL = "execution.completed"


@dataclass(frozen=True)
class Frame:
    """One server-sent event."""

    id: int | None
    event: str
    data: str


@contextmanager
def open_stream(
    api: ServerApi, execution_id: str, last_event_id: int | None = None
) -> Generator[Iterator[Frame]]:
    headers = STREAM if last_event_id is None else {**STREAM, "Last-Event-ID": str(last_event_id)}
    with api.http.stream("GET", f"/v1/executions/{execution_id}/events", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.iter_lines()
        assert next(lines).startswith(":")  # the comment that says that the stream is open
        yield _frames(lines)


def _frames(lines: Iterator[str]) -> Iterator[Frame]:
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif not line and fields:
            identifier = int(fields["id"]) if "id" in fields else None
            yield Frame(identifier, fields["event"], fields["data"])
            fields = {}


def delta(turn: int, text: str) -> dict[str, Any]:
    return {"type": "model.delta", "turn": turn, "text": text}


def start(api: ServerApi) -> str:
    execution_id: str = api.create_execution()["execution_id"]
    api.start_leg(execution_id)
    return execution_id


def test_a_stream_replays_the_log_and_ends_with_it(api: ServerApi) -> None:
    execution_id = start(api)
    api.append(execution_id, [responded(1), responded(2), completed()])

    with open_stream(api, execution_id) as frames:
        received = list(frames)

    assert [frame.id for frame in received] == [1, 2, 3, 4, 5]
    events = [RecordedEvent.model_validate_json(frame.data) for frame in received]
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
    assert [event.event.type for event in events] == [frame.event for frame in received]
    assert api.read_log(execution_id) == [httpx.Response(200, text=frame.data).json() for frame in received]


def test_reconnecting_with_last_event_id_replays_only_missed_events(api: ServerApi) -> None:
    execution_id = start(api)
    api.append(execution_id, [responded(1), responded(2), completed()])

    with open_stream(api, execution_id, last_event_id=3) as frames:
        assert [frame.id for frame in frames] == [4, 5]


def test_after_the_end_of_the_log_there_is_nothing_to_reconnect_to(api: ServerApi) -> None:
    execution_id = start(api)
    api.append(execution_id, [completed()])

    response = api.http.get(f"/v1/executions/{execution_id}/events", headers={**STREAM, "Last-Event-ID": "3"})

    assert response.status_code == 204


@pytest.mark.parametrize("last_event_id", ["x", "-1", "1.5", "99999999999"])
def test_a_last_event_id_that_is_no_sequence_is_refused(api: ServerApi, last_event_id: str) -> None:
    execution_id = start(api)

    response = api.http.get(
        f"/v1/executions/{execution_id}/events", headers={**STREAM, "Last-Event-ID": last_event_id}
    )

    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_a_stream_follows_what_is_appended_and_published(api: ServerApi) -> None:
    execution_id = start(api)

    with open_stream(api, execution_id) as frames:
        assert [next(frames).id, next(frames).id] == [1, 2]
        api.publish(execution_id, [delta(1, "Hel"), delta(1, "lo")])
        api.publish(
            execution_id, [{"type": "tool.output", "call_id": "c", "stream": "stdout", "text": "row\n"}]
        )
        api.append(execution_id, [responded(1)])
        api.append(execution_id, [completed()])
        received = list(frames)

    assert [(frame.id, frame.event) for frame in received] == [
        (None, "model.delta"),
        (None, "model.delta"),
        (None, "tool.output"),
        (3, "model.responded"),
        (4, TERMINAL),
    ]
    assert LIVE_EVENT_ADAPTER.validate_json(received[2].data).type == "tool.output"
    assert EVENT_ADAPTER.validate_python(completed()).type == received[-1].event


def test_a_reader_who_comes_in_the_middle_of_an_answer_gets_its_text_so_far(api: ServerApi) -> None:
    execution_id = start(api)
    thought = {"type": "model.delta", "turn": 1, "kind": "thinking", "text": "hm"}
    api.publish(execution_id, [delta(1, "Once "), thought, delta(1, "upon ")])

    with open_stream(api, execution_id, last_event_id=2) as frames:
        first = next(frames)
        api.publish(execution_id, [delta(1, "a time")])
        second = next(frames)
        api.append(execution_id, [responded(1)])
        assert next(frames).event == "model.responded"
    with open_stream(api, execution_id, last_event_id=3) as frames:
        api.append(execution_id, [completed()])
        rest = list(frames)

    assert (first.event, first.id) == ("model.partial", None)
    assert LIVE_EVENT_ADAPTER.validate_json(first.data) == LIVE_EVENT_ADAPTER.validate_python(
        {"type": "model.partial", "turn": 1, "text": "Once upon "}
    )
    assert (second.event, second.id) == ("model.delta", None)
    assert [frame.event for frame in rest] == [TERMINAL]


def test_the_text_of_an_answer_whose_runner_died_is_taken_back(api: ServerApi) -> None:
    execution_id = start(api)

    with open_stream(api, execution_id) as frames:
        assert [next(frames).id, next(frames).id] == [1, 2]
        api.publish(execution_id, [delta(1, "Half an ans")])
        assert next(frames).event == "model.delta"
        api.start_leg(execution_id)
        after = [next(frames), next(frames), next(frames)]
    with open_stream(api, execution_id, last_event_id=3) as frames:
        assert next(frames).id == 4
        api.publish(execution_id, [delta(1, "Whole")], attempt=2)
        assert next(frames).event == "model.delta"

    assert [frame.event for frame in after] == ["leg.lost", "leg.started", "model.partial"]
    assert httpx.Response(200, text=after[2].data).json()["text"] == ""


def test_a_late_piece_of_an_answer_that_is_in_the_log_is_no_new_answer(api: ServerApi) -> None:
    execution_id = start(api)
    api.publish(execution_id, [delta(1, "Hello")])
    api.append(execution_id, [responded(1)])
    api.publish(execution_id, [delta(1, " world")])

    with open_stream(api, execution_id, last_event_id=3) as frames:
        api.append(execution_id, [completed()])
        assert [frame.event for frame in frames] == [TERMINAL]


def test_a_reader_cut_off_at_random_gets_every_event_once_and_in_order(server: ServerProcess) -> None:
    chance = random.Random(20261122)
    cuts = 100
    cut_often_enough = threading.Event()

    def write(execution_id: str) -> int:
        with server.client() as writer:
            turn = 0
            while not cut_often_enough.is_set():
                turn += 1
                writer.publish(execution_id, [delta(turn, "x")])
                writer.append(execution_id, [responded(turn)]).raise_for_status()
            last: int = writer.append(execution_id, [completed()]).json()["last_sequence"]
            return last

    received: list[int] = []
    with server.client() as api, ThreadPoolExecutor(1) as pool:
        execution_id = start(api)
        written = pool.submit(write, execution_id)
        for _ in range(cuts):
            with open_stream(api, execution_id, received[-1] if received else None) as frames:
                recorded = (frame.id for frame in frames if frame.id is not None)
                received += itertools.islice(recorded, chance.randint(1, 6))
        cut_often_enough.set()
        with open_stream(api, execution_id, received[-1]) as frames:
            received += (frame.id for frame in frames if frame.id is not None)

    assert received == list(range(1, written.result() + 1))


def test_a_reader_that_stops_reading_loses_nothing_of_the_log(server: ServerProcess) -> None:
    text = "x" * 2000
    with server.client() as api:
        execution_id = start(api)
        with socket.socket() as reader:
            reader.settimeout(30)
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            reader.connect(("127.0.0.1", server.port))
            request = (
                f"GET /v1/executions/{execution_id}/events HTTP/1.1\r\nHost: localhost\r\n"
                f"Authorization: Bearer {TOKEN}\r\nAccept: text/event-stream\r\n\r\n"
            )
            reader.sendall(request.encode())
            assert reader.recv(15) == b"HTTP/1.1 200 OK"
            for batch in range(40):
                api.append(execution_id, [responded(100 * batch + turn, text) for turn in range(1, 101)])
            api.append(execution_id, [completed()])
            content = bytearray()
            while not content.endswith(b"0\r\n\r\n"):
                chunk = reader.recv(1 << 20)
                assert chunk
                content += chunk

    ids = [int(line[4:]) for line in content.decode().splitlines() if line.startswith("id: ")]
    assert ids == list(range(1, 4004))


def test_a_reader_that_goes_away_is_no_longer_counted(api: ServerApi) -> None:
    execution_id = start(api)

    def readers() -> float:
        return api.read_metrics()["stigmer_event_readers"]

    before = readers()
    with open_stream(api, execution_id) as frames:
        next(frames)
        assert readers() == before + 1
    for _ in range(200):
        if readers() == before:
            break
    else:
        pytest.fail("the reader is still counted")


def test_the_log_is_read_in_pages(api: ServerApi) -> None:
    execution_id = start(api)
    api.append(execution_id, [responded(1), responded(2)])

    def page(**parameters: int) -> tuple[list[int], str | None]:
        body = api.http.get(f"/v1/executions/{execution_id}/events", params=parameters).json()
        return [event["sequence"] for event in body["items"]], body["next_cursor"]

    assert page(limit=3) == ([1, 2, 3], "3")
    assert page(after=3, limit=3) == ([4], None)
    assert page(after=4) == ([], None)
    assert page(limit=4) == ([1, 2, 3, 4], None)


def test_two_servers_on_one_database_show_each_other_s_events(server: ServerProcess, tmp_path: Any) -> None:
    database_url = server.database_url
    if database_url is None:
        pytest.skip("a SQLite file belongs to one server")
    with (
        server.client() as api,
        ServerProcess(tmp_path, database_url=database_url) as other,
        other.client() as other_api,
    ):
        execution_id = start(api)
        with open_stream(other_api, execution_id) as frames:
            assert [next(frames).id, next(frames).id] == [1, 2]
            api.append(execution_id, [responded(1)])
            other_api.append(execution_id, [responded(2)])
            api.append(execution_id, [completed()])
            assert [frame.id for frame in frames] == [3, 4, 5]


def test_one_stream_carries_many_logs_and_tells_what_ended_and_what_is_not_there(
    api: ServerApi, server: ServerProcess
) -> None:
    first, second = (api.create_execution()["execution_id"] for _ in range(2))
    attempts = {each: api.start_leg(each)["attempt"] for each in (first, second)}
    assert api.append(first, [responded(1)], attempt=attempts[first]).is_success
    query = {"execution": [f"{first}:1", second, "exe_nobody"]}

    with api.http.stream("GET", "/v1/events", params=query, headers=STREAM) as response:
        assert response.status_code == 200
        seen = list[tuple[str, str, Any]]()
        lines, said = response.iter_lines(), 0
        fields = dict[str, str]()
        for line in lines:
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
            elif not line and fields:
                data = json.loads(fields["data"])
                if fields["event"] != "executions.changed":
                    seen.append((fields["event"], data["execution_id"], fields.get("id")))
                fields = {}
            told = {each[:2] for each in seen}
            if said == 0 and {("model.responded", first), ("leg.started", second)} <= told:
                said = 1
                assert api.publish(second, [delta(1, "x")], attempt=attempts[second]).is_success
            # Who is at the end of the log gets the piece; who comes to it a moment later, the text so far.
            elif said == 1 and {("model.delta", second), ("model.partial", second)} & told:
                said = 2
                for each in (first, second):
                    assert api.append(each, [completed()], attempt=attempts[each]).is_success
            if {("log.ended", first), ("log.ended", second)} <= {each[:2] for each in seen}:
                break
    again = api.http.get("/v1/events", params={"execution": [first, second]}).json()["items"]

    assert ("log.missing", "exe_nobody", None) in seen
    of_first = [each for each in seen if each[1] == first]
    assert [(event, position) for event, _, position in of_first] == [
        ("leg.started", f"{first}:2"),
        ("model.responded", f"{first}:3"),
        ("execution.completed", f"{first}:4"),
        ("log.ended", None),
    ]
    assert [(each["phase"], each["last_sequence"]) for each in again] == [("completed", 4), ("completed", 3)]


def test_whoever_watches_hears_that_something_changed_of_their_own(
    api: ServerApi, server: ServerProcess
) -> None:
    answer = api.http.post("/v1/tokens", json={"name": f"w-{uuid4().hex[:12]}", "scope": "user"})
    with ExitStack() as stack:
        person = stack.enter_context(server.client(answer.raise_for_status().json()["token"]))
        opened = stack.enter_context(person.http.stream("GET", "/v1/events", headers=STREAM))
        lines = opened.iter_lines()
        assert next(lines).startswith(":")
        person.create_execution()
        assert next(line for line in lines if line.startswith("event: ")) == "event: executions.changed"

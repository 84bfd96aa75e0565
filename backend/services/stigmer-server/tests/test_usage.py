"""What was used, by time, agent, model and owner; how it stands; lists of what fits; manifests validated."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from server_process import ServerApi, completed, failed, manifest, responded


@pytest.fixture
def use(api: ServerApi, person: ServerApi) -> Callable[..., str]:
    """Lets an agent of the person's ask a model, and end; gives the execution's id."""

    def work(agent: str, cost: str | None, end: dict[str, Any] | None = None) -> str:
        execution_id: str = person.create_execution(manifest=manifest(agent))["execution_id"]
        attempt: int = api.start_leg(execution_id)["attempt"]
        used: dict[str, Any] = {"input_tokens": 100, "output_tokens": 10, "cache_read_tokens": 40}
        usage = used if cost is None else used | {"cost_usd": cost}
        events = [responded(1, **usage), *([] if end is None else [end])]
        answer = api.append(execution_id, events, attempt=attempt)
        assert answer.is_success, answer.text
        return execution_id

    return work


def test_usage_is_told_by_time_agent_model_and_owner(person: ServerApi, use: Callable[..., str]) -> None:
    use("cheap", "0.000000125", completed())
    use("dear", "1.5", completed())
    use("dear", None, completed())
    now = datetime.now(UTC)
    times = [now - timedelta(days=2), now - timedelta(days=1), now + timedelta(days=1)]

    report = person.http.get("/v1/usage", params={"at": [time.isoformat() for time in times]}).json()
    usual = person.http.get("/v1/usage").json()

    assert report["total"]["cost_usd"] == usual["total"]["cost_usd"] == "1.500000125"
    assert [period["usage"]["requests"] for period in report["periods"]] == [0, 3]
    assert report["periods"][0]["usage"]["cost_usd"] is None
    assert len(usual["periods"]) == 30
    shares = {share["name"]: share["usage"] for share in report["agents"]}
    assert list(shares) == ["dear", "cheap"]
    assert (shares["dear"]["input_tokens"], shares["dear"]["cache_read_tokens"]) == (200, 80)
    assert shares["cheap"]["cost_usd"] == "1.25E-7"
    assert [share["name"] for share in report["models"]] == ["replay:test"]
    assert len(report["owners"]) == 1


def test_usage_goes_with_a_session_to_another_owner_and_away_with_it(
    api: ServerApi, person: ServerApi, use: Callable[..., str]
) -> None:
    execution = person.get_execution(use("moved", "2", completed()))
    path = f"/v1/sessions/{execution['session_id']}"
    heir = f"heir-{uuid4().hex[:8]}"

    api.http.put(f"{path}/owner", json={"owner": heir}).raise_for_status()
    after = person.http.get("/v1/usage").json()
    owners = {share["name"] for share in api.http.get("/v1/usage").json()["owners"]}
    api.http.delete(path).raise_for_status()

    assert after["agents"] == []
    assert heir in owners
    assert heir not in {share["name"] for share in api.http.get("/v1/usage").json()["owners"]}


@pytest.mark.parametrize(
    "query", ["at=2026-01-01T00:00:00Z", "at=x&at=y", "at=2026-01-02T00:00:00Z&at=2026-01-01T00:00:00Z"]
)
def test_times_that_make_no_sense_are_refused(person: ServerApi, query: str) -> None:
    assert person.http.get(f"/v1/usage?{query}").status_code in (400, 422)


def test_a_summary_says_how_what_one_sees_stands(person: ServerApi, use: Callable[..., str]) -> None:
    use("a", "0.5", completed())
    use("a", "0.25", failed())
    use("a", "0.25")
    person.create_execution()

    summary = person.http.get("/v1/summary").json()
    later = person.http.get("/v1/summary", params={"since": "2090-01-01T00:00:00Z"}).json()

    assert {name: summary[name] for name in ("pending", "in_progress", "waiting", "completed", "failed")} == {
        "pending": 1,
        "in_progress": 1,
        "waiting": 0,
        "completed": 1,
        "failed": 1,
    }
    assert (summary["open_inputs"], summary["usage"]["cost_usd"]) == (0, "1")
    assert (later["in_progress"], later["failed"], later["usage"]["requests"]) == (1, 0, 0)


def test_a_list_holds_what_fits_all_that_is_asked_for(person: ServerApi, use: Callable[..., str]) -> None:
    done, wrong = use("lister", "0.5", completed()), use("lister", "0.25", failed())
    works = use("other", "3")
    now = datetime.now(UTC)

    def listed(**query: Any) -> list[str]:
        page = person.http.get("/v1/executions", params=query).raise_for_status().json()
        return [item["execution_id"] for item in page["items"]]

    assert listed() == [works, wrong, done]
    assert listed(phase=["completed", "failed"]) == [wrong, done]
    assert listed(agent="lister", min_cost_usd="0.5") == [done]
    assert listed(owner="somebody-else") == []
    assert listed(since=(now - timedelta(hours=1)).isoformat()) == [works, wrong, done]
    assert listed(since=(now + timedelta(hours=1)).isoformat()) == []
    assert listed(until=(now - timedelta(hours=1)).isoformat()) == []
    assert listed(until=(now + timedelta(hours=1)).isoformat(), phase="failed") == [wrong]
    assert person.http.get("/v1/executions", params={"since": "0001-01-01T00:00:00Z"}).status_code == 422


def test_a_manifest_is_validated_as_the_command_line_does(person: ServerApi) -> None:
    text = (
        "apiVersion: agentic.stigmer.ai/v1\nkind: Agent\nmetadata: {name: x}\n"
        "spec:\n  instructions: Do.\n  tols: [shell]\n"
    )

    def validate(text: str) -> dict[str, Any]:
        answer = person.http.post("/v1/manifests/validate", json={"text": text})
        body: dict[str, Any] = answer.raise_for_status().json()
        return body

    [finding] = validate(text)["findings"]
    good = validate(text.replace("tols", "tools"))

    assert (finding["line"], finding["field_path"]) == (6, "spec.tols")
    assert (good["findings"], good["manifests"][0]["metadata"]["name"]) == ([], "x")
    assert validate("a: [")["findings"] != []


def test_the_stack_tells_of_runners_and_of_what_stands_before_them(
    api: ServerApi, person: ServerApi, use: Callable[..., str]
) -> None:
    use("busy", None)

    stack = person.http.get("/v1/stack").raise_for_status().json()

    assert stack["readiness"]["ready"] is True
    [runner] = [each for each in stack["runners"] if each["name"] == "1@test"]
    assert runner["in_hand"] >= 1
    assert stack["queue"]["in_hand"] >= 1


def test_runners_tell_how_they_stand_until_they_have_ended(api: ServerApi, person: ServerApi) -> None:
    def tell(**report: Any) -> int:
        told = {"runner": "7@reports", "version": "0.1.0", "slots": 4, "isolation": "good"} | report
        return api.http.post("/v1/runners/reports", json=told).status_code

    def shown() -> list[dict[str, Any]]:
        stack = person.http.get("/v1/stack").raise_for_status().json()
        return [each for each in stack["runners"] if each["name"] == "7@reports"]

    finding = "commands can see the processes of other sessions"
    assert tell(findings=[finding]) == 204
    [begun] = shown()
    assert tell(draining=True) == 204
    [draining] = shown()
    assert tell(draining=True, ended=True) == 204
    ended = shown()

    figures = ("in_hand", "slots", "isolation", "version", "findings", "draining")
    assert [begun[each] for each in figures] == [0, 4, "good", "0.1.0", [finding], False]
    assert [draining[each] for each in figures] == [0, 4, "good", "0.1.0", [], True]
    assert ended == []
    assert tell(slots=0) == tell(isolation="splendid") == tell(findings=["x" * 1001]) == 422

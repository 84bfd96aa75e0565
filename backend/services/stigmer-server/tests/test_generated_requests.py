"""The HTTP API under generated requests: no defect, and nothing that its OpenAPI document does not say.

Requests come from the document itself (schemathesis), right and wrong ones, to a real server on loopback.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import checks as general_checks
from schemathesis.specs.openapi import checks as openapi_checks

from server_process import TOKEN, ServerProcess
from stigmer_server.app import StigmerServer
from stigmer_server.settings import load_settings

EXAMPLES: Final = 12
# Its generic types are left open where they are declared, so that nothing of it has a whole type here.
LIBRARY: Final[Any] = schemathesis
GENERAL: Final[Any] = general_checks
OPENAPI: Final[Any] = openapi_checks
CONFORMANCE: Final[list[Any]] = [
    OPENAPI.status_code_conformance,
    OPENAPI.content_type_conformance,
    OPENAPI.response_schema_conformance,
]
DOCUMENT: Final[dict[str, Any]] = StigmerServer(
    load_settings({"STIGMER_HOME": "/nonexistent", "STIGMER_TOKEN": "none"})
).openapi()
OPERATIONS: Final = [
    (method, path) for path, operations in DOCUMENT["paths"].items() for method in operations
]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def server(
    request: pytest.FixtureRequest,
    make_database: Callable[[str], str | None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServerProcess]:
    """A server without Temporal, which may be asked as often as one likes."""
    kind: str = request.param
    home: Path = tmp_path_factory.mktemp(f"asked-{kind}")
    unlimited = {"STIGMER_CALLS_PER_SECOND": "0"}
    with ServerProcess(home, database_url=make_database(kind), environment=unlimited) as process:
        yield process
        assert "Traceback" not in process.log_file.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def known(server: ServerProcess) -> dict[str, str]:
    """Values for paths, of things that are there."""
    with server.client() as api:
        execution = api.create_execution()
        api.start_leg(execution["execution_id"])
    return {"execution_id": execution["execution_id"], "session_id": execution["session_id"]}


def test_the_document_that_is_served_is_the_one_that_is_tested(server: ServerProcess) -> None:
    with server.client() as api:
        assert api.http.get("/openapi.json").json() == DOCUMENT


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_generated_requests_get_answers_that_the_document_describes(
    server: ServerProcess, known: dict[str, str], method: str, path: str
) -> None:
    schema = LIBRARY.openapi.from_dict(DOCUMENT)
    schema.config.update(base_url=server.url)
    operation = schema[path][method]
    modes = (LIBRARY.GenerationMode.POSITIVE, LIBRARY.GenerationMode.NEGATIVE)
    cases: st.SearchStrategy[Any] = st.one_of(*(operation.as_strategy(mode) for mode in modes))
    # Without Temporal the server is rightly not ready.
    checks = CONFORMANCE if path == "/readyz" else [GENERAL.not_a_server_error, *CONFORMANCE]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[
            HealthCheck.filter_too_much,
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
        ],
    )
    @given(case=cases, is_known=st.booleans())
    def check(case: Any, is_known: bool) -> None:
        if is_known:
            case.path_parameters.update({name: known[name] for name in case.path_parameters if name in known})
        case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, checks=checks, timeout=20)

    check()

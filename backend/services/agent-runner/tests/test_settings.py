"""The runner's settings: what is read, what is refused, and that secrets stay out of sight."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from agent_runner.errors import SettingsError
from agent_runner.secrets_in_use import SecretsInUse
from agent_runner.settings import RunnerSettings, load_settings, read_health_address, variables
from stigmer_contract import temporal
from stigmer_contract.workspace_directories import Identity, opened

MINIMAL = {"STIGMER_TOKEN": "token-1"}


def load(**environ: str) -> RunnerSettings:
    return load_settings({**MINIMAL, **environ})


def test_a_token_is_all_that_is_needed() -> None:
    settings = load()

    assert (settings.mode, settings.temporal_address, settings.temporal_namespace) == (
        "local",
        "localhost:7233",
        "default",
    )
    assert (settings.temporal_task_queue, settings.temporal_max_concurrency) == (
        "agent_execution_runner",
        200,
    )
    assert (settings.backend_endpoint, settings.sandbox_root_dir) == (
        "http://localhost:7234",
        Path("/workspace"),
    )
    assert (settings.llm_provider, settings.llm_model, settings.llm_base_url) == (None, None, None)
    assert (settings.ollama_base_url, settings.log_level, settings.log_format) == (
        "http://localhost:11434",
        "info",
        "text",
    )
    assert (settings.health_host, settings.health_port, settings.drain_grace_seconds) == (
        "127.0.0.1",
        7235,
        10.0,
    )
    assert settings.token.get_secret_value() == "token-1"


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("MODE", "prod", "'prod' is none of local, cloud"),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "collector:4318",
            "'collector:4318' is not a URL; write http://host:port or https://host",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "Bearer a-token",
            "the value is no list of headers; write name=value,name=value",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "x=a%0D%0Ab",
            "the value is no list of headers; write name=value,name=value",
        ),
        ("LOG_LEVEL", "loud", "'loud' is none of debug, info, warning, error"),
        ("LOG_FORMAT", "xml", "'xml' is none of text, json"),
        (
            "STIGMER_LLM_PROVIDER",
            "gpt",
            "'gpt' is none of openai, anthropic, ollama, openai-compatible, replay",
        ),
        (
            "TEMPORAL_SERVICE_ADDRESS",
            "temporal",
            "'temporal' is not an address; write host:port, such as localhost:7233",
        ),
        (
            "TEMPORAL_SERVICE_ADDRESS",
            "http://temporal:7233",
            "'http://temporal:7233' is not an address; write host:port, such as localhost:7233",
        ),
        (
            "TEMPORAL_SERVICE_ADDRESS",
            "temporal:99999",
            "'temporal:99999' is not an address; write host:port, such as localhost:7233",
        ),
        ("TEMPORAL_MAX_CONCURRENCY", "0", "'0' is not a whole number from 1 to 10000"),
        ("TEMPORAL_MAX_CONCURRENCY", "many", "'many' is not a whole number from 1 to 10000"),
        ("TEMPORAL_TLS", "maybe", "'maybe' is none of true, false"),
        ("TEMPORAL_TLS_CLIENT_CERT_PATH", "/nowhere/cert.pem", "'/nowhere/cert.pem' is not a file"),
        (
            "STIGMER_BACKEND_ENDPOINT",
            "ftp://server",
            "'ftp://server' is not an address; write host:port, http://host:port or https://host",
        ),
        (
            "STIGMER_BACKEND_ENDPOINT",
            "server",
            "'server' is not an address; write host:port, http://host:port or https://host",
        ),
        (
            "STIGMER_LLM_BASE_URL",
            "localhost:8000",
            "'localhost:8000' is not a URL; write http://host:port or https://host",
        ),
        ("SANDBOX_ROOT_DIR", "workspace", "'workspace' is not an absolute path"),
        ("STIGMER_LLM_MAX_TOKENS", "-1", "'-1' is not a whole number from 1 up"),
        ("STIGMER_LLM_TEMPERATURE", "nan", "'nan' is not a number from 0 to 2"),
        ("STIGMER_LLM_TEMPERATURE", "hot", "'hot' is not a number from 0 to 2"),
        ("STIGMER_HEALTH_PORT", "65536", "'65536' is not a whole number from 0 to 65535"),
        ("STIGMER_DRAIN_GRACE_SECONDS", "-3", "'-3' is not a number from 0 to 86400"),
    ],
)
def test_a_wrong_value_names_the_variable_and_what_would_be_right(
    variable: str, value: str, problem: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(**{variable: value})

    assert (caught.value.variable, caught.value.problem) == (variable, problem)


def test_a_missing_token_names_both_ways_to_give_it() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({})

    assert str(caught.value) == "STIGMER_TOKEN: is not set; set STIGMER_TOKEN or STIGMER_TOKEN_FILE"


def test_an_empty_value_counts_as_unset() -> None:
    settings = load(LOG_LEVEL="", OPENAI_API_KEY=" ", STIGMER_TOKEN_FILE="")

    assert (settings.log_level, settings.openai_api_key) == ("info", None)


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("server:7234", "http://server:7234"),
        ("https://stigmer.example.com/", "https://stigmer.example.com"),
        ("http://[::1]:7234", "http://[::1]:7234"),
        ("[::1]:7234", "http://[::1]:7234"),
    ],
)
def test_the_server_may_be_given_as_address_or_url(value: str, url: str) -> None:
    assert load(STIGMER_BACKEND_ENDPOINT=value).backend_endpoint == url


def test_a_collectors_token_is_masked_however_it_is_written_and_a_tenants_name_is_not() -> None:
    secrets = SecretsInUse(
        load(OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20to%2Fken-0123456,x-tenant=production")
    )
    masked = "[secret OTEL_EXPORTER_OTLP_HEADERS]"
    assert secrets.mask("sent to/ken-0123456 for production") == f"sent {masked} for production"
    assert secrets.mask("Authorization: Bearer to/ken-0123456") == f"Authorization: {masked}"


@pytest.mark.parametrize("name", [variable.name for variable in variables() if variable.is_secret])
def test_every_secret_may_come_as_a_file(name: str, tmp_path: Path) -> None:
    secret_file = tmp_path / "secret"
    secret_file.write_text("name=from-file\n", encoding="utf-8")
    environ = {key: value for key, value in MINIMAL.items() if key != name}

    settings = load_settings({**environ, f"{name}_FILE": str(secret_file)})

    secrets = [
        settings.token,
        settings.temporal_api_key,
        settings.llm_api_key,
        settings.openai_api_key,
        settings.anthropic_api_key,
        settings.otlp_headers,
    ]
    assert "name=from-file" in [secret.get_secret_value() for secret in secrets if secret]
    assert "from-file" not in repr(settings)


def test_a_secret_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(OPENAI_API_KEY="a", OPENAI_API_KEY_FILE=str(tmp_path))

    assert str(caught.value) == "OPENAI_API_KEY_FILE: is set beside OPENAI_API_KEY; keep one of them"


def test_a_secret_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    empty.touch()

    with pytest.raises(SettingsError) as caught_missing:
        load(OPENAI_API_KEY_FILE=str(missing))
    with pytest.raises(SettingsError) as caught_empty:
        load(OPENAI_API_KEY_FILE=str(empty))

    assert caught_missing.value.problem == f"could not read {str(missing)!r}: No such file or directory"
    assert caught_empty.value.problem == f"the file {str(empty)!r} is empty"


def test_a_client_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    certificate = tmp_path / "cert.pem"
    certificate.touch()

    with pytest.raises(SettingsError) as caught:
        load(TEMPORAL_TLS_CLIENT_CERT_PATH=str(certificate))

    assert caught.value.variable == "TEMPORAL_TLS_CLIENT_KEY_PATH"


def test_tls_follows_from_an_api_key_unless_it_is_turned_off() -> None:
    assert not load().uses_temporal_tls
    assert load(TEMPORAL_API_KEY="key").uses_temporal_tls
    assert not load(TEMPORAL_API_KEY="key", TEMPORAL_TLS="false").uses_temporal_tls


def test_every_variable_is_described_and_its_default_is_valid() -> None:
    for variable in variables():
        assert variable.description.endswith(".")
        if variable.default is not None:
            variable.parse(variable.default)


def test_defaults_and_providers_agree_with_the_contract() -> None:
    settings = load()

    assert (settings.temporal_address, settings.temporal_namespace, settings.temporal_task_queue) == (
        temporal.DEFAULT_ADDRESS,
        temporal.DEFAULT_NAMESPACE,
        temporal.DEFAULT_TASK_QUEUE,
    )


def test_reading_the_health_address_needs_no_other_value_and_no_heavy_import() -> None:
    assert read_health_address({"STIGMER_HEALTH_PORT": "7999", "MODE": "nonsense"}) == ("127.0.0.1", 7999)
    assert read_health_address({"STIGMER_HEALTH_HOST": "::"}) == ("::1", 7235)

    code = "import sys, agent_runner.settings; print('pydantic' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "False"


def test_a_command_line_of_another_version_is_refused_in_one_line() -> None:
    ours = version("stigmer-agent-runner")

    ended = subprocess.run(
        [sys.executable, "-m", "agent_runner"],
        env=MINIMAL | {"STIGMER_CLI_VERSION": "9.1.0"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (
        2,
        "",
        f"error: could not start the runner: it is version {ours}, which does not go with stigmer 9.1.0; "
        f"use the runner's image of version 9.1.0, or install stigmer {ours}\n",
    )


def test_what_is_mounted_is_what_was_looked_at(tmp_path: Path) -> None:
    named, other = tmp_path / "a name ", tmp_path / "other"
    named.mkdir()
    other.mkdir()
    with opened(str(named)) as directory:
        looked_at = directory.identity
    of_another_user = Identity(looked_at.file_system, looked_at.number, looked_at.owner + 1)

    for identity in (looked_at, of_another_user):
        told = json.dumps({str(named): str(identity)})
        assert load(STIGMER_PLACEMENT_MOUNTS=told).placement_mounts == (str(named),)
    for path, problem in (
        (other, f"another directory was put at {str(other)!r} while its container was started"),
        (tmp_path / "gone", f"{str(tmp_path / 'gone')!r} cannot be opened: No such file or directory"),
    ):
        with pytest.raises(SettingsError) as raised:
            load(STIGMER_PLACEMENT_MOUNTS=json.dumps({str(named): str(looked_at), str(path): str(looked_at)}))
        assert raised.value.problem == problem

"""What the parts of the stack are started with, by exact text."""

from pathlib import Path

from stigmer_cli.config import Configuration, load_configuration
from stigmer_cli.stack.local_components import runner_environment, server_environment, temporal_arguments

HOME = "/home/person/.stigmer"


def _configuration(**variables: str) -> Configuration:
    return load_configuration({"STIGMER_HOME": HOME, "PATH": "/bin", **variables})


def test_temporal_runs_on_loopback_without_pages_and_in_a_file_of_its_own() -> None:
    assert temporal_arguments(_configuration(), Path("/bin/temporal")) == (
        *("/bin/temporal", "server", "start-dev", "--ip", "127.0.0.1", "--port", "7233"),
        *("--db-filename", f"{HOME}/data/temporal.db"),
        *("--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=normal"),
        *("--dynamic-config-value", "matching.numTaskqueueReadPartitions=1"),
        *("--dynamic-config-value", "matching.numTaskqueueWritePartitions=1"),
        *("--log-level", "warn", "--disable-config-file", "--disable-config-env", "--color", "never"),
        "--headless",
    )


def test_a_page_and_a_namespace_are_served_on_request() -> None:
    configuration = _configuration(STIGMER_TEMPORAL_UI_PORT="8233", TEMPORAL_NAMESPACE="mine")
    arguments = " ".join(temporal_arguments(configuration, Path("/bin/temporal")))
    assert "--headless" not in arguments
    assert "--ui-port 8233 --ui-ip 127.0.0.1 --ui-disable-news-fetch" in arguments
    assert "--namespace mine" in arguments


def test_the_server_is_told_what_it_needs_and_no_more() -> None:
    configuration = _configuration(
        OPENAI_API_KEY="sk-x",
        AWS_SECRET_ACCESS_KEY="x",
        STIGMER_HOST="example.org",
        TEMPORAL_API_KEY="t",
        OTEL_EXPORTER_OTLP_HEADERS="authorization=t",
    )
    assert server_environment(configuration) == {
        "PATH": "/bin",
        "PYTHONUNBUFFERED": "1",
        "MODE": "local",
        "STIGMER_HOME": HOME,
        "STIGMER_HOST": "127.0.0.1",
        "STIGMER_PORT": "7234",
        "STIGMER_TOKEN_FILE": f"{HOME}/run/token",
        "STIGMER_RUNNER_TOKEN_FILE": f"{HOME}/run/runner-token",
        "TEMPORAL_SERVICE_ADDRESS": "127.0.0.1:7233",
        "TEMPORAL_NAMESPACE": "default",
        "TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE": "agent_execution_runner",
        "LOG_LEVEL": "info",
    }


def test_the_runner_has_the_persons_environment_but_for_what_is_the_servers() -> None:
    configuration = _configuration(
        JAVA_HOME="/opt/java",
        OPENAI_API_KEY="sk-x",
        STIGMER_TOKEN="elsewhere",
        STIGMER_DATABASE_URL="postgresql://user:secret@host/db",
        TEMPORAL_API_KEY="t",
    )
    assert runner_environment(configuration) == {
        "PATH": "/bin",
        "JAVA_HOME": "/opt/java",
        "OPENAI_API_KEY": "sk-x",
        "OLLAMA_BASE_URL": "http://localhost:11434",
        "PYTHONUNBUFFERED": "1",
        "MODE": "local",
        "STIGMER_HOME": HOME,
        "STIGMER_BACKEND_ENDPOINT": "127.0.0.1:7234",
        "STIGMER_HEALTH_HOST": "127.0.0.1",
        "STIGMER_HEALTH_PORT": "7235",
        "STIGMER_DRAIN_GRACE_SECONDS": "6.0",
        "STIGMER_TOKEN_FILE": f"{HOME}/run/runner-token",
        "SANDBOX_ROOT_DIR": f"{HOME}/data/workspace",
        "TEMPORAL_SERVICE_ADDRESS": "127.0.0.1:7233",
        "TEMPORAL_NAMESPACE": "default",
        "TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE": "agent_execution_runner",
        "LOG_LEVEL": "info",
    }


def test_keys_of_temporal_go_with_its_address_only() -> None:
    elsewhere = _configuration(
        TEMPORAL_SERVICE_ADDRESS="cloud:7233", TEMPORAL_API_KEY="t", TEMPORAL_TLS="true"
    )
    for environment in (server_environment(elsewhere), runner_environment(elsewhere)):
        assert (environment["TEMPORAL_API_KEY"], environment["TEMPORAL_TLS"]) == ("t", "true")
        assert environment["TEMPORAL_SERVICE_ADDRESS"] == "cloud:7233"


def test_model_settings_of_the_file_reach_the_runner(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("llm: {provider: openai, model: gpt-5, apiKey: sk-y}\n")
    environment = runner_environment(load_configuration({"STIGMER_HOME": str(tmp_path)}))
    names = ("STIGMER_LLM_PROVIDER", "STIGMER_LLM_MODEL", "STIGMER_LLM_API_KEY")
    assert [environment[name] for name in names] == ["openai", "gpt-5", "sk-y"]


def test_an_endpoints_key_that_stands_in_a_file_reaches_the_runner_once(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "llm: {endpoints: {acme: {url: 'https://acme.example', key: ACME_KEY}}}\n"
    )
    (tmp_path / "key").write_text("k-1\n")
    variables = {"STIGMER_HOME": str(tmp_path), "ACME_KEY_FILE": str(tmp_path / "key")}
    environment = runner_environment(load_configuration(variables))
    assert {name: value for name, value in environment.items() if "ACME" in name} == {"ACME_KEY": "k-1"}


def test_where_traces_go_reaches_the_runner_from_the_file_and_from_a_secrets_file(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("traces: {endpoint: 'https://collector.example/'}\n")
    (tmp_path / "headers").write_text("authorization=Bearer%20t\n")
    variables = {"STIGMER_HOME": str(tmp_path), "OTEL_EXPORTER_OTLP_HEADERS_FILE": str(tmp_path / "headers")}
    environment = runner_environment(load_configuration(variables))
    assert {name: value for name, value in environment.items() if name.startswith("OTEL_")} == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector.example",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20t",
    }

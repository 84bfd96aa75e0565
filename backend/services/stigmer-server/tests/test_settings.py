"""The environment: what is read, and the one line that a wrong value gets."""

from datetime import timedelta
from pathlib import Path

import pytest

from stigmer_server.errors import SettingsError
from stigmer_server.settings import load_settings

MINIMUM = {"STIGMER_HOME": "/srv/stigmer", "STIGMER_TOKEN": "token"}


def test_the_defaults_are_those_of_a_laptop() -> None:
    settings = load_settings(MINIMUM)

    assert (settings.host, settings.port) == ("127.0.0.1", 7234)
    assert settings.database_url == "sqlite:////srv/stigmer/data/stigmer.db"
    assert settings.blob_directory == Path("/srv/stigmer/data/blobs")
    assert settings.allowed_hosts == {"localhost", "127.0.0.1", "[::1]"}
    assert settings.temporal.address == "localhost:7233"
    assert settings.temporal.task_queue == "agent_execution_runner"
    assert settings.temporal.tls is False
    assert (settings.reconcile_interval_seconds, settings.heartbeat_timeout_seconds) == (15, 5)
    assert settings.audit_retention == timedelta(days=365)
    assert (settings.log_level, settings.log_format) == ("info", "text")


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("STIGMER_HOME", "here", "'here' is not an absolute path"),
        ("STIGMER_PORT", "99999", "'99999' is not a whole number from 0 to 65535"),
        ("STIGMER_PORT", "http", "'http' is not a whole number from 0 to 65535"),
        (
            "STIGMER_DATABASE_URL",
            "mysql://root:secret@host/db",
            "is not a database's URL; write sqlite:////path/of/file or postgresql://user:password@host/name",
        ),
        (
            "STIGMER_ALLOWED_HOSTS",
            "example.com:80",
            "'example.com:80' is not a host name; write names without scheme and port, with commas between",
        ),
        ("STIGMER_TOKEN", "two words", "must be printable ASCII characters without spaces"),
        ("STIGMER_AUDIT_RETENTION_DAYS", "-1", "'-1' is not a whole number of days from 0 to 99999"),
        ("STIGMER_RECONCILE_INTERVAL_SECONDS", "0", "'0' is not a number of seconds from 0.1 to 86400"),
        (
            "STIGMER_LEG_HEARTBEAT_TIMEOUT_SECONDS",
            "nan",
            "'nan' is not a number of seconds from 0.1 to 86400",
        ),
        (
            "TEMPORAL_SERVICE_ADDRESS",
            "http://localhost:7233",
            "'http://localhost:7233' is not an address; write host:port, such as localhost:7233",
        ),
        ("TEMPORAL_TLS", "maybe", "'maybe' is none of true, false"),
        ("TEMPORAL_TLS_SERVER_CA_CERT_PATH", "/no/file", "'/no/file' is not a file"),
        ("LOG_LEVEL", "loud", "'loud' is none of debug, info, warning, error"),
        ("LOG_FORMAT", "xml", "'xml' is none of text, json"),
    ],
)
def test_a_wrong_value_is_named(variable: str, value: str, problem: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(MINIMUM | {variable: value})

    assert str(raised.value) == f"{variable}: {problem}"


def test_the_token_is_required() -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings({"STIGMER_HOME": "/srv/stigmer"})

    assert (
        str(raised.value)
        == "STIGMER_TOKEN: is not set; set it, or STIGMER_TOKEN_FILE, to the administrator's token"
    )


def test_the_token_may_come_as_a_file(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("from-file\n", encoding="utf-8")

    assert load_settings({"STIGMER_TOKEN_FILE": str(token)}).token == "from-file"
    with pytest.raises(SettingsError, match="STIGMER_TOKEN_FILE: is set beside STIGMER_TOKEN"):
        load_settings({"STIGMER_TOKEN_FILE": str(token), "STIGMER_TOKEN": "direct"})


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_token_file_without_a_token_is_named(tmp_path: Path, content: str | None) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content, encoding="utf-8")

    with pytest.raises(SettingsError) as raised:
        load_settings({"STIGMER_TOKEN_FILE": str(token)})

    assert raised.value.variable == "STIGMER_TOKEN_FILE"


def test_a_client_certificate_needs_its_key(tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.pem"
    certificate.touch()

    with pytest.raises(SettingsError) as raised:
        load_settings(MINIMUM | {"TEMPORAL_TLS_CLIENT_CERT_PATH": str(certificate)})

    assert raised.value.variable == "TEMPORAL_TLS_CLIENT_KEY_PATH"


def test_an_api_key_turns_tls_on() -> None:
    assert load_settings(MINIMUM | {"TEMPORAL_API_KEY": "key"}).temporal.tls is True
    assert load_settings(MINIMUM | {"TEMPORAL_API_KEY": "key", "TEMPORAL_TLS": "false"}).temporal.tls is False


def test_no_secret_stands_in_the_settings_text() -> None:
    settings = load_settings(
        MINIMUM
        | {
            "STIGMER_TOKEN": "hidden-one",
            "TEMPORAL_API_KEY": "hidden-two",
            "STIGMER_DATABASE_URL": "postgresql://me:hidden-three@host/name",
        }
    )

    assert "hidden" not in repr(settings)

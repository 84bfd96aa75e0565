"""The configuration: where values come from, how errors name their place, and setting one."""

import json
import stat
from pathlib import Path

import pytest

from stack_home import make_stack_home
from stigmer_cli.config import Configuration, load_configuration, set_value, settings_by_field
from stigmer_cli.errors import ConfigurationError, UsageError


def _load(home: Path, text: str | None = None, **variables: str) -> Configuration:
    if text is not None:
        (home / "config.yaml").write_text(text, encoding="utf-8")
    return load_configuration({"STIGMER_HOME": str(home), **variables})


def _refusal(home: Path, text: str | None = None, **variables: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        _load(home, text, **variables)
    assert raised.value.exit_code == 2
    return raised.value.message.replace(str(home), "HOME")


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    text = "server:\n  port: 1111\nrunner:\n  healthPort: 2222\n"
    configuration = _load(tmp_path, text, STIGMER_PORT="3333")
    ports = (configuration.server_port, configuration.runner_health_port, configuration.temporal_port)
    assert ports == (3333, 2222, 7233)
    keys = ("server.port", "runner.healthPort", "temporal.port")
    assert [configuration.sources[key] for key in keys] == [
        "STIGMER_PORT",
        f"{tmp_path}/config.yaml:4",
        "default",
    ]


def test_without_a_home_nothing_is_made_and_defaults_hold(tmp_path: Path) -> None:
    configuration = _load(tmp_path / "missing")
    assert set(configuration.sources.values()) == {"default"}
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("llm:\n  modl: x\n", "HOME/config.yaml:2:3: unknown key `llm.modl`"),
        (
            "server:\n  port: eighty\n",
            "HOME/config.yaml:2:9: `server.port`: 'eighty' is not a whole number from 1 to 65535",
        ),
        (
            "server: {port: 0}\n",
            "HOME/config.yaml:1:16: `server.port`: '0' is not a whole number from 1 to 65535",
        ),
        ("server: 7\n", "HOME/config.yaml:1:9: `server` must be a mapping of keys to values"),
        ("- a\n", "HOME/config.yaml:1:1: the file must be a mapping of keys to values"),
        ("logLevel: info\nlogLevel: debug\n", "HOME/config.yaml:2:1: `logLevel` is set twice"),
        ("logLevel: [info]\n", "HOME/config.yaml:1:11: `logLevel` must be a single value"),
        (
            "logLevel: loud\n",
            "HOME/config.yaml:1:11: `logLevel`: 'loud' is none of debug, info, warning, error",
        ),
        ("a: b: c\n", "HOME/config.yaml:1:5: the file is not YAML: mapping values are not allowed here"),
        (
            "llm: {temperature: nan}\n",
            "HOME/config.yaml:1:20: `llm.temperature`: 'nan' is not a number from 0 to 2",
        ),
        (
            "temporal: {address: here}\n",
            "HOME/config.yaml:1:21: `temporal.address`: 'here' is not an address; "
            "write host:port, such as localhost:7233",
        ),
    ],
)
def test_a_broken_file_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    assert _refusal(tmp_path, text) == message


def test_a_broken_variable_is_refused_by_its_name(tmp_path: Path) -> None:
    message = _refusal(tmp_path, STIGMER_PORT="7e3")
    assert message == "STIGMER_PORT: '7e3' is not a whole number from 1 to 65535"


def test_equal_ports_are_refused(tmp_path: Path) -> None:
    message = _refusal(tmp_path, STIGMER_PORT="7235")
    assert message.endswith("`runner.healthPort` and `server.port` are both 7235; ports must differ")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"llm:\n  model: \xff\n")
    assert _refusal(tmp_path) == "HOME/config.yaml:2: the file is not UTF-8 text"


def test_a_secret_may_come_as_a_file_and_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-canary\n", encoding="utf-8")
    configuration = _load(tmp_path, OPENAI_API_KEY_FILE=str(tmp_path / "key"))
    assert configuration.openai_api_key is not None
    assert configuration.openai_api_key.reveal() == "sk-canary"
    assert configuration.sources["llm.openaiApiKey"] == "OPENAI_API_KEY_FILE"
    assert "sk-canary" not in repr(configuration)


@pytest.mark.parametrize(
    ("before", "key", "value", "after"),
    [
        ("", "llm.model", "gpt-5", "llm:\n  model: gpt-5\n"),
        ("# mine\nllm:\n  model: a  # old\n", "llm.model", "b", "# mine\nllm:\n  model: b  # old\n"),
        (
            "llm:\n  model: a\n\n# end\n",
            "llm.provider",
            "openai",
            "llm:\n  model: a\n  provider: openai\n\n# end\n",
        ),
        ("llm: {model: a}\n", "llm.provider", "openai", "llm: {model: a, provider: openai}\n"),
        ("llm:  # empty\nlogLevel: info\n", "llm.model", "x", "llm:  # empty\n  model: x\nlogLevel: info\n"),
        ("llm: {}\n", "llm.provider", "openai", "llm: {provider: openai}\n"),
        ("logLevel: info", "llm.model", "x", "logLevel: info\nllm:\n  model: x\n"),
        ("{logLevel: info}\n", "llm.model", "x", "{logLevel: info, llm: {model: x}}\n"),
        ("", "llm.model", "a: b #c", 'llm:\n  model: "a: b #c"\n'),
        ("", "llm.model", "null", 'llm:\n  model: "null"\n'),
        ("", "llm.apiKey", "1e3", "llm:\n  apiKey: 1e3\n"),
    ],
)
def test_setting_a_value_leaves_the_rest_of_the_file(
    tmp_path: Path, before: str, key: str, value: str, after: str
) -> None:
    configuration = _load(tmp_path, before)
    path = set_value(configuration, key, value)
    assert path.read_text(encoding="utf-8") == after
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert _load(tmp_path).sources[key].startswith(str(path))


def test_a_linked_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "dotfiles.yaml").touch()
    (tmp_path / "config.yaml").symlink_to("dotfiles.yaml")
    set_value(_load(tmp_path), "llm.model", "x")
    assert (tmp_path / "config.yaml").is_symlink()
    assert (tmp_path / "dotfiles.yaml").read_text(encoding="utf-8") == "llm:\n  model: x\n"


@pytest.mark.parametrize(
    ("key", "value", "message", "hint"),
    [
        ("llm.modell", "x", "unknown key `llm.modell`", "write `llm.model`"),
        ("zzz", "x", "unknown key `zzz`", "run `stigmer config show` to see the keys that there are"),
        ("server.port", "x", "`server.port`: 'x' is not a whole number from 1 to 65535", None),
    ],
)
def test_a_wrong_setting_changes_nothing(
    tmp_path: Path, key: str, value: str, message: str, hint: str | None
) -> None:
    with pytest.raises(UsageError) as raised:
        set_value(_load(tmp_path), key, value)
    assert (raised.value.message, raised.value.hint) == (message, hint)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_edited_safely_stays_as_it_is(tmp_path: Path) -> None:
    text = "llm: ~\nlogLevel: info\n"
    with pytest.raises(ConfigurationError) as raised:
        set_value(_load(tmp_path, text), "llm.model", "x")
    assert raised.value.problem == "could not set `llm.model` in the file"
    assert (tmp_path / "config.yaml").read_text(encoding="utf-8") == text


def test_every_setting_has_a_key_and_a_variable_of_its_own() -> None:
    settings = list(settings_by_field().values())
    assert len({setting.key for setting in settings}) == len(settings)
    assert len({setting.variable for setting in settings}) == len(settings)


def test_show_masks_secrets_and_names_sources(tmp_path: Path) -> None:
    stack_home = make_stack_home(tmp_path / "home", own_temporal=False)
    completed = stack_home.stigmer("config", "show", "--json", variables={"OPENAI_API_KEY": "sk-canary"})
    settings = json.loads(completed.stdout)["settings"]
    assert settings["llm.openaiApiKey"]["value"] == "********"
    assert settings["llm.openaiApiKey"]["source"] == "OPENAI_API_KEY"
    assert settings["server.port"]["value"] == stack_home.ports["server"]
    assert "sk-canary" not in completed.stdout


def test_set_and_show_agree(tmp_path: Path) -> None:
    stack_home = make_stack_home(tmp_path / "home", own_temporal=False)
    completed = stack_home.stigmer("config", "set", "llm.model", "gpt-5")
    assert (completed.returncode, completed.stdout) == (0, "")
    assert stack_home.stigmer("config", "set", "retention.workspaces", "36h").returncode == 0
    shown = json.loads(stack_home.stigmer("config", "show", "--json").stdout)
    assert shown["settings"]["llm.model"]["value"] == "gpt-5"
    assert shown["settings"]["retention.workspaces"]["value"] == "1d12h"
    assert shown["settings"]["runner.idleAfter"]["value"] == "10m"


def test_endpoints_are_a_mapping_of_the_file_with_their_keys_in_variables(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "llm:\n  endpoints:\n    acme:\n      url: http://localhost:8000/v1/\n      key: ACME_KEY\n"
        "      headers: {X-Title: 7}\n    bare: https://bare.example/v1\n  maxTokens: 5\n",
        encoding="utf-8",
    )
    environ = {"STIGMER_HOME": str(tmp_path), "ACME_KEY": "of-acme", "OTHER_KEY": "of-nobody"}

    configuration = load_configuration(environ)

    assert json.loads(configuration.llm_endpoints or "") == {
        "acme": {"url": "http://localhost:8000/v1", "key": "ACME_KEY", "headers": {"x-title": "7"}},
        "bare": {"url": "https://bare.example/v1"},
    }
    assert {name: key.reveal() for name, key in configuration.endpoint_keys.items()} == {
        "ACME_KEY": "of-acme"
    }
    assert configuration.llm_max_tokens == 5


def test_a_key_in_the_place_of_its_variables_name_is_refused_and_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "llm: {endpoints: {acme: {url: 'http://h/v1', key: sk-live-123}}}\n", encoding="utf-8"
    )

    with pytest.raises(ConfigurationError, match="must name an environment variable") as caught:
        load_configuration({"STIGMER_HOME": str(tmp_path)})

    assert "sk-live" not in str(caught.value)


def test_endpoints_that_are_set_by_the_command_are_read_back(tmp_path: Path) -> None:
    environ = {"STIGMER_HOME": str(tmp_path)}
    endpoints = '{"acme": {"url": "https://h/v1"}, "kept": {"url": "https://k/v1", "key": "secret:K"}}'

    for _ in range(2):
        set_value(load_configuration(environ), "llm.endpoints", endpoints)

    assert load_configuration(environ).llm_endpoints == endpoints

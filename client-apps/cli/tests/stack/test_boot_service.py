"""`stigmer server install`: what systemd and launchd are given, and what becomes of settings and keys."""

import json
import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stack_home import StackHome
from stigmer_cli.config import Configuration, load_configuration
from stigmer_cli.config.stored_environment import stored_environment_file
from stigmer_cli.errors import ConfigurationError
from stigmer_cli.stack.boot_service import find_settings, render_agent, render_unit

KEY = "sk-canary-0123456789"
ODD_NAME = 'a b"c\\d$HOME%h'
SYSTEMCTL = """\
#!/bin/sh
echo "$@" >> "$0.calls"
if [ -e "$0.refuses-$2" ]; then echo "Failed to $2 unit: no" >&2; exit 1; fi
"""


@pytest.fixture
def installing_home(stack_home: StackHome, tmp_path: Path) -> StackHome:
    """A home of somebody with a systemd that writes down what it is told."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("systemctl", "loginctl"):
        (programs / name).write_text(SYSTEMCTL, encoding="utf-8")
        (programs / name).chmod(0o755)
    stack_home.environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "USER": "ada"}
    return stack_home


def unit_of(home: StackHome) -> Path:
    return home.path.parent / ".config/systemd/user/stigmer.service"


def calls(home: StackHome) -> list[str]:
    file = Path(home.environment["PATH"].partition(":")[0]) / "systemctl.calls"
    return file.read_text("utf-8").splitlines() if file.exists() else []


def refuse(home: StackHome, verb: str) -> None:
    (Path(home.environment["PATH"].partition(":")[0]) / f"systemctl.refuses-{verb}").touch()


def configuration_of(home: Path, **environ: str) -> Configuration:
    return load_configuration({"STIGMER_HOME": str(home)} | environ)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit_whatever_the_paths_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "a b $HOME $$ %h"  # systemd runs none with quotes or backslashes in its name
    shutil.copy("/bin/true", program)
    monkeypatch.setattr(sys, "executable", str(program))  # systemd looks whether it can be executed
    unit = tmp_path / "stigmer.service"
    unit.write_text(render_unit(configuration_of(tmp_path / ODD_NAME), f"/bin:/{ODD_NAME}"), encoding="utf-8")

    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(unit)],
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )

    assert str(unit.name) not in done.stderr + done.stdout


def test_the_unit_names_home_and_program_and_escapes_what_systemd_would_expand(tmp_path: Path) -> None:
    lines = render_unit(configuration_of(tmp_path / ODD_NAME), "/bin").splitlines()

    assert f'Environment="STIGMER_HOME={tmp_path}/a b\\"c\\\\d$HOME%%h"' in lines
    assert f'ExecStart=":{sys.executable}" "-P" "-m" "stigmer_cli" server start --timeout 600' in lines


def test_the_launchd_agent_is_a_property_list_that_lets_the_stack_go_on(tmp_path: Path) -> None:
    agent = plistlib.loads(render_agent(configuration_of(tmp_path / ODD_NAME), "/bin").encode())

    assert agent["ProgramArguments"][-4:] == ["server", "start", "--timeout", "600"]
    assert agent["AbandonProcessGroup"] is True
    assert agent["EnvironmentVariables"] == {"STIGMER_HOME": str(tmp_path / ODD_NAME), "PATH": "/bin"}


def test_what_stands_in_the_environment_alone_is_found(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("server: {port: 7777}\n", encoding="utf-8")
    environ = {
        "STIGMER_HOME": str(tmp_path),
        "STIGMER_TOKEN": "of-another-server",
        "STIGMER_LLM_MODEL": "gpt-5",
        "STIGMER_LLM_ENDPOINTS": json.dumps({"router": {"url": "https://llm.example", "key": "ROUTER_KEY"}}),
        "STIGMER_ISOLATION_MEMORY_MB": "512",
        "OPENAI_API_KEY": KEY,
        "ROUTER_KEY": KEY,
        "HTTPS_PROXY": "http://user:secret@proxy.example",
        "PGPASSWORD": "secret",
        "EDITOR": "vi",
        "LOG_LEVEL": "",
    }

    found = find_settings(load_configuration(environ), environ)

    assert dict(found.settings) == {
        "llm.endpoints": environ["STIGMER_LLM_ENDPOINTS"],
        "llm.model": "gpt-5",
    }
    assert set(found.variables) == {
        *("STIGMER_ISOLATION_MEMORY_MB", "OPENAI_API_KEY", "ROUTER_KEY", "HTTPS_PROXY", "PGPASSWORD")
    }


def test_installing_stores_settings_and_keys_and_puts_neither_into_the_unit(
    installing_home: StackHome,
) -> None:
    said = {"OPENAI_API_KEY": KEY, "STIGMER_LLM_PROVIDER": "openai", "STIGMER_LLM_MODEL": "gpt-5"}
    ports = {name: value for name, value in installing_home.environment.items() if name.endswith("_PORT")}

    done = installing_home.stigmer("server", "install", "--yes", variables=said)
    for name in ports:
        del installing_home.environment[name]
    shown = json.loads(installing_home.stigmer("config", "show", "--json").stdout)["settings"]
    removed = installing_home.stigmer("server", "uninstall")

    unit = unit_of(installing_home)
    stored = stored_environment_file(installing_home.path)
    assert done.returncode == 0, done.stderr
    assert KEY not in done.stderr
    assert f"wrote {unit}; the stack starts when you log in, and ends when" in done.stderr
    assert "for a start with this machine run `loginctl enable-linger ada`" in done.stderr
    assert shown["llm.openaiApiKey"]["source"] == "OPENAI_API_KEY, stored by `stigmer server install`"
    assert (shown["llm.model"]["value"], shown["llm.provider"]["value"]) == ("gpt-5", "openai")
    assert shown["server.port"]["value"] == int(ports["STIGMER_PORT"])
    assert calls(installing_home) == [
        "--user show-environment",
        "--user daemon-reload",
        "--user enable stigmer.service",
        "--user start --no-block stigmer.service",
        "--user disable --now stigmer.service",
    ]
    assert (removed.returncode, unit.exists(), stored.exists()) == (0, False, False)


def test_keys_are_stored_where_only_their_owner_can_read_them(installing_home: StackHome) -> None:
    done = installing_home.stigmer("server", "install", "--yes", variables={"OPENAI_API_KEY": KEY})

    stored = stored_environment_file(installing_home.path)
    assert done.returncode == 0, done.stderr
    assert json.loads(stored.read_text("utf-8"))["OPENAI_API_KEY"] == KEY
    assert stored.stat().st_mode & 0o777 == 0o600
    assert KEY not in unit_of(installing_home).read_text("utf-8")
    assert KEY not in (installing_home.path / "config.yaml").read_text("utf-8")


def test_what_the_unit_starts_is_a_stack(installing_home: StackHome) -> None:
    """With nothing of the shell's environment but what the unit and the stored settings give."""
    pythonpath = installing_home.environment["PYTHONPATH"]  # the stand-ins
    assert installing_home.stigmer("server", "install", "--yes").returncode == 0
    command = next(
        line.partition("=")[2]
        for line in unit_of(installing_home).read_text("utf-8").splitlines()
        if line.startswith("ExecStart=")
    )

    done = subprocess.run(
        ["sh", "-c", command.replace('":', '"', 1)],  # what the colon means to systemd a shell does not know
        env={"HOME": str(installing_home.path.parent), "STIGMER_HOME": str(installing_home.path)}
        | {"PATH": os.defpath, "PYTHONPATH": pythonpath},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=200,
    )

    assert done.returncode == 0, done.stderr
    assert installing_home.component("server")["phase"] == "ready"


@pytest.mark.parametrize("verb", ["show-environment", "enable"])
def test_where_systemd_refuses_nothing_is_left(installing_home: StackHome, verb: str) -> None:
    refuse(installing_home, verb)

    done = installing_home.stigmer("server", "install", "--yes", variables={"OPENAI_API_KEY": KEY})
    configuration = configuration_of(installing_home.path)

    assert (done.returncode, done.stderr.splitlines()[-3]) == (
        3,
        f"error: could not have systemd start the stack: Failed to {verb} unit: no",
    )
    assert not unit_of(installing_home).exists()
    assert not stored_environment_file(installing_home.path).exists()
    assert not configuration.config_file.exists()


def test_where_systemd_refuses_what_was_stored_before_is_as_it_was(installing_home: StackHome) -> None:
    first = installing_home.stigmer("server", "install", "--yes", variables={"STIGMER_ISOLATION": "warn"})
    assert first.returncode == 0, first.stderr
    files = [
        *(unit_of(installing_home), stored_environment_file(installing_home.path)),
        installing_home.path / "config.yaml",
    ]
    before = [file.read_bytes() for file in files]
    refuse(installing_home, "enable")

    said = {
        "OPENAI_API_KEY": KEY,
        "STIGMER_LLM_MODEL": "gpt-5",
        "PATH": f"{installing_home.environment['PATH']}:/x",
    }
    done = installing_home.stigmer("server", "install", "--yes", variables=said)

    assert done.returncode == 3
    assert [file.read_bytes() for file in files] == before


def test_storing_is_asked_for_and_refused_without_a_terminal(installing_home: StackHome) -> None:
    done = installing_home.stigmer("server", "install", variables={"OPENAI_API_KEY": KEY})

    assert (done.returncode, done.stderr.splitlines()[-3]) == (
        2,
        "error: could not ask whether to store them: there is no terminal",
    )
    assert "  OPENAI_API_KEY  → environment.json, which only you can read" in done.stderr.splitlines()
    assert not stored_environment_file(installing_home.path).exists()


def test_printing_changes_nothing(installing_home: StackHome) -> None:
    done = installing_home.stigmer("server", "install", "--print", variables={"OPENAI_API_KEY": KEY})

    assert done.returncode == 0
    assert "[Service]" in done.stdout
    assert KEY not in done.stdout
    assert calls(installing_home) == []
    assert not unit_of(installing_home).exists()


def test_a_stored_variable_comes_after_the_environment_and_the_file(tmp_path: Path) -> None:
    stored = stored_environment_file(tmp_path)
    stored.touch(mode=0o600)
    stored.write_text(json.dumps({"STIGMER_LLM_MODEL": "stored", "OPENAI_API_KEY": KEY, "A_FILE": "/a"}))

    assert configuration_of(tmp_path).llm_model == "stored"
    assert configuration_of(tmp_path, STIGMER_LLM_MODEL="exported").llm_model == "exported"
    assert configuration_of(tmp_path, A="own").environment.get("A_FILE") is None
    (tmp_path / "config.yaml").write_text("llm: {model: written}\n", encoding="utf-8")
    assert configuration_of(tmp_path).llm_model == "written"


@pytest.mark.parametrize(
    ("mode", "text", "problem"),
    [
        (0o644, "{}", "others can read the keys in it"),
        (0o600, "{", "the file is not JSON"),
        (0o600, "[]", "the file must map names of variables to texts"),
        (0o600, '{"A": 1}', "'A' is no variable with a text"),
        (0o600, '{"A=B": "c"}', "'A=B' is no variable with a text"),
    ],
)
def test_a_stored_environment_that_is_none_is_refused(
    tmp_path: Path, mode: int, text: str, problem: str
) -> None:
    stored = stored_environment_file(tmp_path)
    stored.write_text(text, encoding="utf-8")
    stored.chmod(mode)

    with pytest.raises(ConfigurationError) as raised:
        configuration_of(tmp_path)

    assert problem in raised.value.message

"""What the container is to be, by exact values; and what is told where it is to be another one."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent_runner.settings import variables
from stigmer_cli.config import Configuration, load_configuration
from stigmer_cli.containers import BindMount, EngineKind, EngineTraits, Image
from stigmer_cli.containers.specs import render_creation
from stigmer_cli.errors import ConfigurationError, UsageError
from stigmer_cli.runner.environment import runner_environment
from stigmer_cli.runner.placement import (
    Placement,
    check_directory,
    forget_placement,
    placement_spec,
    read_placement,
    write_placement,
)
from stigmer_cli.runner.plan import (
    RunnerPlan,
    container_spec,
    differences,
    make_plan,
    read_plan,
    write_plan,
)
from stigmer_cli.runner.resolution import ChosenImage
from stigmer_contract.workspace_directories import CONTAINED_USER

DOCKER = EngineTraits(EngineKind.DOCKER, "20.10.24", "1.41", "amd64", False, False, True)
ROOTLESS_PODMAN = EngineTraits(EngineKind.PODMAN, "4.3.1", "1.41", "amd64", True, False, True)
ROOTLESS_DOCKER = replace(DOCKER, is_rootless=True)
DESKTOP = replace(DOCKER, is_virtual=True)
IMAGE = ChosenImage("image:1", Image("sha256:1", ("image:1",), (), {}, 1, "amd64", ""))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with the folders that a start makes."""
    for name in ("data/workspace", "run"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def _configuration(home: Path, **more: str) -> Configuration:
    return load_configuration({"STIGMER_HOME": str(home), "PATH": "/bin", **more})


def _plan(configuration: Configuration, traits: EngineTraits = DOCKER) -> RunnerPlan:
    return make_plan(configuration, traits, IMAGE, "token")[0]


def test_it_runs_as_the_person_and_never_as_root(home: Path) -> None:
    configuration, user, group = _configuration(home), os.getuid(), os.getgid()
    person = f"{user}:{group}" if user else f"{CONTAINED_USER}:{CONTAINED_USER}"
    other = None if user else CONTAINED_USER
    for traits, inside, known_as in (
        (DOCKER, person, other),
        (replace(DOCKER, kind=EngineKind.PODMAN), person, other),
        (DESKTOP, person, None),  # which shares files as whoever runs its machine
        (ROOTLESS_PODMAN, person, None),
        (ROOTLESS_DOCKER, "0:0", None),  # which is this person
    ):
        plan = _plan(configuration, traits)
        assert (plan.user, plan.other_user) == (inside, known_as)


def test_the_container_is_locked_down(home: Path) -> None:
    configuration = _configuration(home, STIGMER_RUNNER_MEMORY="1g", STIGMER_RUNNER_CPUS="1.5")
    plan = replace(_plan(configuration), user="1000:1001", groups=("5555",))
    body = render_creation(container_spec(plan, configuration), has_limits=True)
    assert body["HostConfig"] == {
        "NetworkMode": "host",
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "GroupAdd": ["5555"],
        "Tmpfs": {"/tmp": "size=268435456,mode=1777"},
        "AutoRemove": False,
        "RestartPolicy": {"Name": "no"},
        "Mounts": [
            {
                "Type": "bind",
                "Source": f"{home}/data/workspace",
                "Target": "/workspace",
                "ReadOnly": False,
            },
            {
                "Type": "bind",
                "Source": f"{home}/run/runner-secrets",
                "Target": "/run/secrets",
                "ReadOnly": True,
            },
        ],
        "PidsLimit": 3840,
        "Memory": 1024**3,
        "MemorySwap": 1024**3,
        "NanoCpus": 1_500_000_000,
    }
    assert (body["Image"], body["User"], body["StopTimeout"]) == ("sha256:1", "1000:1001", 5)
    assert body["Healthcheck"]["Test"] == ["NONE"]  # the supervisor asks it


def test_what_holds_it_in_can_be_set(home: Path) -> None:
    configuration = _configuration(
        home,
        STIGMER_RUNNER_READ_ONLY_ROOT="false",
        STIGMER_RUNNER_CAPABILITIES="CHOWN,NET_BIND_SERVICE",
        STIGMER_RUNNER_NEW_PRIVILEGES="true",
        STIGMER_RUNNER_TEMPORARY_SIZE="64m",
    )
    host = render_creation(container_spec(_plan(configuration), configuration), has_limits=True)["HostConfig"]
    names = ("ReadonlyRootfs", "CapDrop", "CapAdd", "SecurityOpt", "Tmpfs")
    assert {name: host[name] for name in names} == {
        "ReadonlyRootfs": False,
        "CapDrop": ["ALL"],
        "CapAdd": ["CHOWN", "NET_BIND_SERVICE"],
        "SecurityOpt": [],
        "Tmpfs": {"/tmp": "size=67108864,mode=1777"},
    }
    assert differences(_plan(_configuration(home)), _plan(configuration)) == ["its limits or rights changed"]


def test_whoever_runs_the_engine_owns_the_files(home: Path) -> None:
    configuration = _configuration(home)
    assert _plan(configuration, ROOTLESS_PODMAN).user_namespace == "keep-id"
    assert _plan(configuration, ROOTLESS_DOCKER).user == "0:0"
    assert _plan(configuration).user_namespace is None


@pytest.mark.parametrize("has_selinux", [True, False])
def test_where_the_engine_uses_selinux_directories_are_labelled(home: Path, has_selinux: bool) -> None:
    configuration = _configuration(home)
    plan = _plan(configuration, replace(DOCKER, has_selinux=has_selinux))
    body = render_creation(container_spec(plan, configuration), has_limits=False)
    labelled = [f"{home}/data/workspace:/workspace:rw,z", f"{home}/run/runner-secrets:/run/secrets:ro,z"]
    assert body["HostConfig"].get("Binds") == (labelled if has_selinux else None)


def test_the_groups_of_whoever_starts_it_are_kept_where_they_mean_the_same(home: Path) -> None:
    configuration = _configuration(home)
    is_root = os.getuid() == 0  # whose container is another user's
    own = tuple(str(group) for group in sorted({*os.getgroups()} - {os.getgid()}))
    assert _plan(configuration).groups == (() if is_root else own)
    assert _plan(configuration, ROOTLESS_PODMAN).groups == ()
    assert _plan(configuration, ROOTLESS_DOCKER).groups == ()
    assert _plan(configuration, DESKTOP).groups == ()
    plan = replace(_plan(configuration), groups=("5555",))
    assert differences(replace(plan, groups=()), plan) == ["its limits or rights changed"]


@pytest.mark.parametrize(
    ("told", "pids"),
    [({}, 3840), ({"TEMPORAL_MAX_CONCURRENCY": "10"}, 800), ({"STIGMER_RUNNER_PIDS": "100"}, 100)],
)
def test_how_many_processes_it_may_have_follows_how_much_it_does_at_once(
    home: Path, told: dict[str, str], pids: int
) -> None:
    assert _plan(_configuration(home, **told)).pids == pids


def test_labels_of_selinux_are_asked_for(home: Path) -> None:
    configuration = _configuration(home, STIGMER_SELINUX_LABEL="private")
    body = render_creation(container_spec(_plan(configuration), configuration), has_limits=False)
    assert body["HostConfig"]["Binds"] == [
        f"{home}/data/workspace:/workspace:rw,Z",
        f"{home}/run/runner-secrets:/run/secrets:ro,Z",
    ]


def test_the_runner_knows_every_variable_that_it_is_told(home: Path, tmp_path: Path) -> None:
    authority = tmp_path / "authority.pem"
    authority.write_text("PEM")
    everything = {
        setting.name: "1" if setting.name.endswith(("TOKENS", "TEMPERATURE", "CONCURRENCY")) else "x"
        for setting in variables()
        if setting.name not in ("STIGMER_HEALTH_PORT", "STIGMER_LLM_PROVIDER", "LOG_LEVEL")
    }
    everything |= {
        "TEMPORAL_SERVICE_ADDRESS": "temporal.example:7233",
        "STIGMER_BACKEND_ENDPOINT": "server.example:80",
        "OLLAMA_BASE_URL": "ollama.example:11434",
        "STIGMER_LLM_BASE_URL": "http://model.example",
        "OPENAI_BASE_URL": "http://model.example",
        "ANTHROPIC_BASE_URL": "http://model.example",
        "STIGMER_LLM_ENDPOINTS": '{"acme": {"url": "http://model.example"}}',
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.example:4318",
        "STIGMER_LLM_PROVIDER": "openai",
    }
    everything |= {name: str(authority) for name in everything if name.endswith("_PATH")}
    plan, told = make_plan(_configuration(home, **everything), DOCKER, IMAGE, "token")
    # What is told to a runner that sees this machine as it is (here the mounts say it), and its name, which
    # the attendant tells it, for each life another.
    told_otherwise = {"STIGMER_HOME", "STIGMER_WORKSPACE_ROOTS", "STIGMER_RUNNER_NAME"}
    told_otherwise |= {"STIGMER_PLACEMENT_TASK_QUEUE", "STIGMER_PLACEMENT_MOUNTS"}
    known = {setting.name for setting in variables()} - told_otherwise
    assert {name.removesuffix("_FILE") for name in plan.environment} == known
    secret = {setting.name for setting in variables() if setting.is_secret}
    assert secret <= told.secrets.keys()
    assert not secret & plan.environment.keys()


def test_addresses_of_this_machine_lead_through_the_gateway_of_a_virtual_engine(home: Path) -> None:
    configuration = _configuration(
        home,
        STIGMER_LLM_BASE_URL="http://127.0.0.1:9000/v1",
        OPENAI_BASE_URL="http://[::1]:9001/v1",
        STIGMER_LLM_ENDPOINTS='{"acme": {"url": "http://localhost:8000/v1", "key": "ACME_KEY"}}',
        ACME_KEY="of-acme",
        HTTPS_PROXY="http://localhost:3128",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://localhost:4318",
        NO_PROXY="example.org",
    )
    plain = _plan(configuration, DESKTOP).environment
    names = ("OLLAMA_BASE_URL", "STIGMER_LLM_BASE_URL", "HTTPS_PROXY", "OTEL_EXPORTER_OTLP_ENDPOINT")
    assert {name: plain[name] for name in names} == {
        "OLLAMA_BASE_URL": "http://host.docker.internal:11434",
        "STIGMER_LLM_BASE_URL": "http://host.docker.internal:9000/v1",
        "HTTPS_PROXY": "http://host.docker.internal:3128",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://host.docker.internal:4318",
    }
    assert plain["OPENAI_BASE_URL"] == "http://host.docker.internal:9001/v1"
    assert "http://host.docker.internal:8000/v1" in plain["STIGMER_LLM_ENDPOINTS"]
    assert plain["ACME_KEY_FILE"] == "/run/secrets/ACME_KEY"
    assert "of-acme" not in str(plain)
    assert plain["STIGMER_BACKEND_ENDPOINT"] == "host.docker.internal:7234"
    assert plain["TEMPORAL_SERVICE_ADDRESS"] == "host.docker.internal:7233"
    assert plain["NO_PROXY"].split(",")[:2] == ["example.org", "localhost"]


def test_a_file_that_cannot_be_read_is_named(home: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        runner_environment(_configuration(home, SSL_CERT_FILE="/no/such/file"), None)
    assert str(raised.value) == "SSL_CERT_FILE: could not read '/no/such/file': No such file or directory"


def test_reasons_for_another_container_are_told(home: Path) -> None:
    old = _plan(_configuration(home))
    assert differences(old, _plan(_configuration(home))) == []
    new = _plan(_configuration(home, OPENAI_API_KEY="k", STIGMER_RUNNER_PIDS="700"))
    new = replace(new, image_id="sha256:2")
    assert differences(old, new) == [
        "the image is now image:1",
        "OPENAI_API_KEY_FILE changed",
        "a secret changed",
        "its limits or rights changed",
    ]
    assert differences(old, _plan(_configuration(home))) == []


def test_a_plan_is_read_as_it_was_written_and_holds_no_secret(home: Path) -> None:
    configuration = _configuration(home, OPENAI_API_KEY="sk-canary")
    plan, environment = make_plan(configuration, DOCKER, IMAGE, "token-canary")
    write_plan(plan, environment, configuration)
    assert read_plan(configuration) == plan
    text = (home / "run" / "runner-container.json").read_text(encoding="utf-8")
    assert "canary" not in text
    write_plan(plan, runner_environment(_configuration(home), None), configuration)
    assert list((home / "run" / "runner-secrets").iterdir()) == []


@pytest.mark.parametrize("directory", ["/", "/etc", "/usr", "/proc/self", "/tmp", "/workspace/x", "/opt"])
def test_the_containers_own_directories_are_no_workspace(directory: str, home: Path) -> None:
    configuration = _configuration(home)
    with pytest.raises(UsageError):
        check_directory(configuration, directory)


@pytest.fixture
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that is not in the home."""
    return tmp_path_factory.mktemp("beside")


def test_a_placement_sees_its_directory_where_it_is_the_secrets_and_a_folder_of_its_own(
    home: Path, beside: Path
) -> None:
    directory = beside / "mit Leerzeichen"
    directory.mkdir()
    configuration = _configuration(home)
    plan = _plan(configuration)
    placement = Placement(
        placement_id="0123456789abcdef",
        task_queue="queue/0123456789abcdef",
        directory=str(directory),
        identity=check_directory(configuration, str(directory)),
        health_port=4711,
    )
    spec, standing = placement_spec(placement, plan, configuration), container_spec(plan, configuration)
    assert spec.mounts == (
        BindMount(home / "data" / "placements" / "0123456789abcdef", "/workspace"),
        BindMount(home / "run" / "runner-secrets", "/run/secrets", is_read_only=True),
        BindMount(directory, str(directory)),
    )
    assert dict(spec.environment) == dict(standing.environment) | {
        "STIGMER_PLACEMENT_TASK_QUEUE": "queue/0123456789abcdef",
        "STIGMER_PLACEMENT_MOUNTS": json.dumps({str(directory): placement.identity}),
        "STIGMER_HEALTH_PORT": "4711",
    }
    assert (spec.name, spec.labels["ai.stigmer.placement"]) == (
        f"{standing.name}-0123456789abcdef",
        "0123456789abcdef",
    )
    assert str(directory) not in str(standing)


@pytest.mark.parametrize("setting", ["warn", "off"])
def test_a_repository_and_its_hooks_are_mounts_of_their_own_unless_that_is_off(
    setting: str, home: Path, beside: Path
) -> None:
    hooks = beside / ".git" / "hooks"
    hooks.mkdir(parents=True)
    configuration = _configuration(home, STIGMER_PROTECT_GIT=setting)
    identity = check_directory(configuration, str(beside))
    placement = Placement("0123456789abcdef", "queue/0123456789abcdef", str(beside), identity, 4711)

    def shown() -> tuple[tuple[BindMount, ...], list[str]]:
        spec = placement_spec(placement, _plan(configuration), configuration)
        return spec.mounts[3:], list(json.loads(spec.environment["STIGMER_PLACEMENT_MOUNTS"]))

    if setting == "off":
        assert shown() == ((), [str(beside)])
        return
    git = BindMount(hooks.parent, str(hooks.parent))
    assert shown() == (
        (git, BindMount(hooks, str(hooks), is_read_only=True)),
        [str(beside), str(hooks.parent), str(hooks)],
    )
    hooks.rmdir()
    hooks.symlink_to("/etc")
    assert shown() == ((git,), [str(beside), str(hooks.parent)])


def test_a_placement_is_read_as_it_was_written_and_its_folder_outlives_it(home: Path) -> None:
    configuration = _configuration(home)
    placement = Placement("0123456789abcdef", "queue/0123456789abcdef", "/srv/one", "1 2 3", 4711)
    write_placement(placement, configuration)
    assert read_placement(configuration, "0123456789abcdef") == placement
    folder = home / "data" / "placements" / "0123456789abcdef"
    assert folder.stat().st_mode & 0o777 == 0o700
    forget_placement(configuration, "0123456789abcdef")
    assert read_placement(configuration, "0123456789abcdef") is None
    assert folder.is_dir()
    assert read_placement(configuration, "../../config") is None


@pytest.mark.parametrize("part", ["", "data", "data/workspace", "data/placements", "run", "../"])
def test_own_state_is_never_mounted_as_a_workspace(part: str, home: Path) -> None:
    (home / "data" / "placements").mkdir()
    configuration = _configuration(home)
    with pytest.raises(UsageError) as raised:
        check_directory(configuration, str((home / part).resolve()))
    assert raised.value.hint is not None


def test_a_directory_that_became_a_link_or_is_gone_is_not_mounted(home: Path, beside: Path) -> None:
    configuration = _configuration(home)
    (beside / "keys").mkdir()
    (beside / "linked").symlink_to(beside / "keys")
    for name, why in (("linked", "is a symbolic link"), ("gone", "No such file or directory")):
        with pytest.raises(UsageError, match=why):
            check_directory(configuration, str(beside / name))


def test_a_directory_that_was_made_anew_is_another_one(home: Path, beside: Path) -> None:
    configuration = _configuration(home)
    directory = beside / "work"
    directory.mkdir()
    before = check_directory(configuration, str(directory))
    directory.rename(beside / "old")
    directory.mkdir()
    assert check_directory(configuration, str(directory)) != before

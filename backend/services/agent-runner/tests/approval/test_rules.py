"""What becomes of a call by the agent's rules, the execution's setting and what a person has approved."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from agent_runner.approval import ApprovalCall, ApprovalRules, decide, rule_for_kind
from agent_runner.workspace import SessionWorkspace
from stigmer_contract.manifest_approval import ApprovalPolicy, ApprovalRule
from stigmer_isolation.launcher import CommandLauncher


def rules(*given: dict[str, Any], least: ApprovalPolicy | None = None) -> ApprovalRules:
    return ApprovalRules([ApprovalRule.model_validate(rule) for rule in given], least)


def shell(command: object) -> ApprovalCall:
    return ApprovalCall("shell", "run_command", {"command": command})


def file(tool: str, path: str, *resolved: str) -> ApprovalCall:
    return ApprovalCall("files", tool, {"path": path}, paths=(path, *resolved))


def server(tool: str, destructive: bool = True, **arguments: Any) -> ApprovalCall:
    return ApprovalCall("github", tool, arguments, destructive, built_in=False)


def test_the_first_rule_that_matches_decides() -> None:
    decided = rules(
        {"tool": "shell", "when": "git status*", "policy": "allow"},
        {"tool": "shell", "when": "git push*", "policy": "deny"},
        {"tool": "shell", "policy": "ask"},
    )

    assert decided.decide(shell("git status")).policy == "allow"
    assert decided.decide(shell("git push")).policy == "deny"
    assert decided.decide(shell("ls")).policy == "ask"
    found = decided.decide(shell("git push"))
    assert (found.rule_path, found.rule and found.rule.when) == ("spec.approval[1]", "git push*")
    assert found.reason == "shell: git push* (spec.approval[1]): it runs 'git'"


def test_without_a_rule_that_matches_a_call_is_allowed() -> None:
    assert rules().decide(shell("git push")).policy == "allow"
    assert rules({"tool": "files", "policy": "deny"}).decide(shell("ls")).policy == "allow"
    assert rules().decides_all
    assert not rules(least="ask").decides_all


@pytest.mark.parametrize(
    ("rule", "least", "wanted"),
    [
        (None, None, "allow"), (None, "allow", "allow"), (None, "ask", "ask"), (None, "deny", "deny"),
        ("allow", None, "allow"), ("allow", "ask", "ask"), ("allow", "deny", "deny"),
        ("ask", "allow", "ask"), ("ask", "deny", "deny"), ("deny", "allow", "deny"), ("deny", "ask", "deny"),
    ],
)  # fmt: skip
def test_of_rule_and_setting_the_strictest_holds(
    rule: ApprovalPolicy | None, least: ApprovalPolicy | None, wanted: ApprovalPolicy
) -> None:
    given = [] if rule is None else [{"tool": "shell", "policy": rule}]

    assert rules(*given, least=least).decide(shell("ls")).policy == wanted


@pytest.mark.parametrize(
    ("tool", "call", "holds"),
    [
        ("files", file("write_file", "a"), True),
        ("write_file", file("write_file", "a"), True),
        ("write_*", file("write_file", "a"), True),
        ("files/write_file", file("write_file", "a"), True),
        ("read_file", file("write_file", "a"), False),
        ("github/*", server("create_issue"), True),
        ("github/create_issue", server("create_issue"), True),
        ("*/create_issue", server("create_issue"), True),
        ("gitlab/*", server("create_issue"), False),
        ("create_issue", server("create_issue"), True),
        ("*", server("create_issue"), True),
    ],
)
def test_a_rule_names_a_toolset_a_tool_or_both(tool: str, call: ApprovalCall, holds: bool) -> None:
    assert (rules({"tool": tool, "policy": "ask"}).decide(call).policy == "ask") is holds


def test_what_a_server_calls_its_tools_allows_nothing() -> None:
    given = {"tool": "run_command", "policy": "allow"}, {"tool": "*", "policy": "ask"}

    assert rules(*given).decide(shell("ls")).policy == "allow"
    assert rules(*given).decide(server("run_command")).policy == "ask"


def test_a_rule_may_be_for_destructive_tools_alone() -> None:
    given = rules({"tool": "github/*", "destructive": True, "policy": "ask"})

    assert given.decide(server("delete_repository")).policy == "ask"
    assert given.decide(server("search_issues", destructive=False)).policy == "allow"


def test_a_rule_on_another_tool_looks_at_every_text_of_the_arguments() -> None:
    asks = rules({"tool": "github/*", "when": "acme/*", "policy": "ask"})
    allows = rules({"tool": "github/*", "when": "acme/*", "policy": "allow"}, {"tool": "*", "policy": "deny"})

    assert asks.decide(server("x", a={"b": ["acme/site"]})).policy == "ask"
    assert asks.decide(server("x", a="other")).policy == "allow"
    assert allows.decide(server("x", a="acme/a", b="acme/b")).policy == "allow"
    assert allows.decide(server("x", a="acme/a", b="other/b")).policy == "deny"
    assert allows.decide(server("x")).policy == "deny"
    assert asks.decide(server("x", a=["x"] * 2000)).policy == "ask"


@pytest.mark.parametrize(
    ("when", "call", "holds"),
    [
        ("secrets/**", file("write_file", "secrets/a"), True),
        ("secrets/**", file("read_file", "./secrets/a/b", "secrets/a/b"), True),
        ("secrets/**", file("write_file", "link", "secrets/a"), True),
        ("secrets/**", file("write_file", "SECRETS/a"), True),
        ("secrets/**", file("write_file", "public/a"), False),
        ("*.env", file("read_file", "a/b/prod.env"), True),
        ("/*.env", file("read_file", "a/b/prod.env"), False),
        ("secrets/**", file("search_files", ".", ""), True),
        ("secrets/**", file("search_files", "public"), False),
        ("*.env", file("search_files", "public"), True),
        ("secrets/**", file("list_directory", "."), False),
        ("[", file("write_file", "a"), True),
    ],
)
def test_a_rule_on_files_matches_the_path_that_is_opened(when: str, call: ApprovalCall, holds: bool) -> None:
    assert (rules({"tool": "files", "when": when, "policy": "deny"}).decide(call).policy == "deny") is holds


def test_a_path_is_allowed_only_where_it_matches_wherever_links_lead() -> None:
    given = rules({"tool": "files", "when": "out/**", "policy": "allow"}, {"tool": "files", "policy": "ask"})

    assert given.decide(file("write_file", "out/a")).policy == "allow"
    assert given.decide(file("write_file", "out/a", "elsewhere/a")).policy == "ask"
    assert given.decide(file("write_file", "OUT/a")).policy == "ask"
    assert given.decide(file("search_files", "out")).policy == "allow"
    assert given.decide(file("search_files", ".")).policy == "ask"


def test_what_is_no_text_is_asked_about_and_never_allowed() -> None:
    given = rules(
        {"tool": "shell", "when": "ls*", "policy": "allow"}, {"tool": "shell", "when": "rm*", "policy": "ask"}
    )

    assert given.decide(shell(["ls"])).policy == "ask"
    assert given.decide(shell(None)).policy == "ask"


def test_an_approved_kind_answers_questions_and_nothing_else() -> None:
    given = [
        ApprovalRule(tool="shell", when="git push --force*", policy="deny"),
        ApprovalRule(tool="shell", policy="ask"),
    ]
    granted = [ApprovalRule(tool="shell", when="git push *", policy="allow")]
    decided = ApprovalRules(given, None, granted)

    assert decided.decide(shell("git push origin main")).policy == "allow"
    assert decided.decide(shell("git push -f")).policy == "deny"
    assert decided.decide(shell("git push; ls")).policy == "ask"
    assert ApprovalRules(given, "deny", granted).decide(shell("git push")).policy == "deny"


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("git push origin main", "git push *"),
        ("npm install left-pad", "npm install *"),
        ("ls -la", "ls *"),
        ("pwd", "pwd *"),
        ("docker build .", "docker build *"),
        ("rm -rf build", "rm *"),
    ],
)
def test_a_kind_is_never_wider_than_a_program_and_its_subcommand(command: str, kind: str) -> None:
    found = rule_for_kind(shell(command))

    assert found == ApprovalRule(tool="shell", when=kind, policy="allow")


_WITHOUT_KIND = [
    *["env git push", "sudo ls", "xargs ls", "bash -c ls", "bash x.sh", "sh", "python x.py"],
    *["python3.11 -m x", "timeout 5 ls", "nice ls", "nohup ls", "find . -exec ls", "find . -name x"],
    *["node x.js", "perl x", "eval ls", ". ./x", "source x", "awk x", "sed x", "ssh host ls", "make"],
    *["npx x", "docker run image", "npm exec x", "git bisect run x", "git -C x bisect", "ls; pwd"],
    *["ls > x", "A=1 ls", "ls $x", "ls *", "git rebase -x ls", "./ls", "/bin/ls", "$x", "ls '", ""],
    *["time ls", "command ls", "exec ls", "busybox ls", "git -C x push"],
]


@pytest.mark.parametrize("command", _WITHOUT_KIND)
def test_there_is_no_kind_of_what_runs_other_programs(command: str) -> None:
    assert rule_for_kind(shell(command)) is None


def test_the_kind_of_a_file_is_this_file_and_that_of_a_servers_tool_this_tool() -> None:
    assert rule_for_kind(file("write_file", "a/b", "a/b")) == ApprovalRule(
        tool="write_file", when="/a/b", policy="allow"
    )
    assert rule_for_kind(file("write_file", "a", "b")) is None
    assert rule_for_kind(file("write_file", "a*")) is None
    assert rule_for_kind(server("x")) == ApprovalRule(tool="github/x", policy="allow")


@pytest.mark.parametrize("tool", ["*", "read*", "rea?", "two\nlines", pytest.param("x" * 500, id="long")])
def test_there_is_no_kind_of_a_servers_tool_whose_name_could_mean_others(tool: str) -> None:
    assert rule_for_kind(server(tool)) is None


def test_what_is_too_long_for_a_rule_has_a_shorter_kind_or_none() -> None:
    assert rule_for_kind(shell(f"echo {'a' * 12_000}")) == ApprovalRule(
        tool="shell", when="echo *", policy="allow"
    )
    assert rule_for_kind(shell("a" * 12_000)) is None
    assert rule_for_kind(file("write_file", "a" * 500)) is None
    assert rule_for_kind(file("write_file", "a" * 499)) is not None


@pytest.fixture
async def workspace(tmp_path: Path) -> AsyncGenerator[SessionWorkspace]:
    directory = tmp_path / "session"
    directory.mkdir()
    async with CommandLauncher() as launcher:
        yield SessionWorkspace(directory, launcher=launcher)


async def test_the_path_that_counts_is_the_one_that_is_opened(
    workspace: SessionWorkspace, tmp_path: Path
) -> None:
    session = tmp_path / "session"
    (session / "secrets").mkdir()
    (session / "public").symlink_to("secrets")
    (session / "loop").symlink_to("loop")
    (session / "out").symlink_to(tmp_path)
    given = rules({"tool": "files", "when": "secrets/**", "policy": "deny"})

    async def decided(path: object) -> str:
        call = ApprovalCall("files", "write_file", {"path": path})
        return (await decide(given, call, workspace)).policy

    assert await decided("secrets/a") == "deny"
    assert await decided("./x/../secrets/a") == "deny"
    assert await decided("public/new/file") == "deny"
    assert await decided(str(session / "public" / "a")) == "deny"
    assert await decided("other/a") == "allow"
    assert await decided("loop/a") == "allow"
    assert await decided("out/secrets/a") == "allow"
    assert await decided(None) == "deny"
    assert (await decide(given, shell("x" * 5000), workspace)).policy == "allow"
    asks = rules({"tool": "files", "policy": "ask"})
    asked = await decide(asks, ApprovalCall("files", "write_file", {"path": "./a"}), workspace)
    assert asked.kind == ApprovalRule(tool="write_file", when="/a", policy="allow")

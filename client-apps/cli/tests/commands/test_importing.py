"""`stigmer import`: what becomes of agents of other programs, and what is said of the rest."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli_harness import Command


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command, which needs no server for this."""
    home = {"HOME": str(tmp_path), "STIGMER_HOME": str(tmp_path / "home")}
    return Command({"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **home}, tmp_path)


SECRET = "ghp_" + "A1b2" * 9
MCP = """\
{
\t// of a client that allows comments
\t"mcpServers": {
\t\t"GitHub": {
\t\t\t"command": "npx", "args": ["-y", "@x/github@1.2.3", "--token=SECRET"],
\t\t\t"env": {"GITHUB_TOKEN": "SECRET", "LEVEL": "info", "OTHER": "${input:other}"},
\t\t\t"alwaysAllow": ["a"],
\t\t},
\t\t"shell": {"type": "http", "url": "https://example.com/mcp",
\t\t\t"headers": {"Authorization": "Bearer ${API_KEY}"}},
\t\t"off": {"command": "x", "disabled": true},
\t\t"odd": {"command": 7},
\t},
}
""".replace("SECRET", SECRET)


def spec_of(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text(encoding="utf-8"))["spec"]


def put(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_mcp_servers_come_over_without_their_secrets(command: Command) -> None:
    put(command.folder / "Shop 1" / ".mcp.json", MCP)

    done = command.run("import", "Shop 1")

    assert (done.exit_code, done.stdout) == (0, "agents/shop-1/agent.yaml\n")
    written = (command.folder / "agents/shop-1/agent.yaml").read_text(encoding="utf-8")
    assert SECRET not in written + done.stdout + done.stderr
    assert spec_of(command.folder / "agents/shop-1/agent.yaml")["mcpServers"] == [
        {
            "name": "github",
            "command": ["npx", "-y", "@x/github@1.2.3", "REPLACE-ME"],
            "env": {
                "GITHUB_TOKEN": {"secret": "GITHUB_TOKEN"},
                "LEVEL": "info",
                "OTHER": {"secret": "other"},
            },
            "network": "web",
        },
        {
            "name": "shell-server",
            "url": "https://example.com/mcp",
            "headers": {"Authorization": {"secret": "SHELL_SERVER_AUTHORIZATION"}},
        },
    ]
    remarks = {line.partition(": ")[0]: line for line in done.stderr.splitlines()}
    source = "Shop 1/.mcp.json"
    assert "stigmer secrets set GITHUB_TOKEN" in done.stderr
    assert f"{source}:7: mcpServers.GitHub.alwaysAllow: was not carried over" in done.stderr
    assert "set all of its value with `stigmer secrets set SHELL_SERVER_AUTHORIZATION`" in done.stderr
    assert remarks[f"{source}:11"].endswith("was not carried over: it is switched off")
    assert "neither `command` nor `url`" in remarks[f"{source}:12"]


def test_agents_and_skills_of_claude_code_come_over(command: Command) -> None:
    home = command.folder / "project"
    put(
        home / ".claude/agents/reviewer.md",
        """---
name: code-reviewer
description: Use it when code changed: reviews it. Examples: <example>user: "x"</example>
tools: Read, Grep, Bash(git diff:*), mcp__files__look, Task, AskUserQuestion
model: sonnet
color: red
skills: house-style, missing
maxTurns: 7
---

You review.\x20\x20
Be brief.
""",
    )
    put(home / ".claude/agents/all.md", "---\nname: all\ndescription: d\nmodel: claude-opus-4-1\n---\nDo.\n")
    put(home / ".claude/agents/notes.md", "Only notes.\n")
    put(home / ".claude/skills/house-style/SKILL.md", "---\nname: house-style\ndescription: d\n---\nBrief.\n")
    put(home / ".claude/settings.json", '{"permissions": {"deny": ["Bash(rm:*)", "Read(./.env)", "What"]}}')
    put(home / ".mcp.json", '{"mcpServers": {"files": {"command": "serve"}}}')
    put(home / "AGENTS.md", "Be exact.\n@docs/more.md\n")
    put(home / "CLAUDE.md", "@AGENTS.md\n")
    put(home / "values.yaml", "a: {{ .Values.x }}\n")

    done = command.run("import", "project", "-o", "out")

    assert done.exit_code == 0, done.stderr
    assert done.stdout.split() == [f"out/{name}/agent.yaml" for name in ("project", "all", "code-reviewer")]
    reviewer = spec_of(command.folder / "out/code-reviewer/agent.yaml")
    assert reviewer["instructions"] == "You review.\nBe brief.\n"
    assert reviewer["tools"] == ["shell", "files"] and reviewer["askUser"] is True
    assert reviewer["limits"] == {"turns": 7}
    assert reviewer["skills"] == ["../../project/.claude/skills/house-style"]
    assert reviewer["mcpServers"] == [
        {"name": "files-server", "command": ["serve"], "network": "web", "tools": ["look"]}
    ]
    assert reviewer["approval"] == [
        {"tool": "write_file", "policy": "deny"},
        {"tool": "edit_file", "policy": "deny"},
        {"tool": "create_directory", "policy": "deny"},
        {"tool": "shell", "when": "git diff*", "policy": "allow"},
        {"tool": "shell", "policy": "ask"},
    ]
    everything = spec_of(command.folder / "out/all/agent.yaml")
    assert everything["model"] == "anthropic:claude-opus-4-1"
    project = spec_of(command.folder / "out/project/agent.yaml")
    assert project["instructions"] == "Be exact.\n@docs/more.md\n"
    assert project["context"] == {"agentsFile": False}
    assert project["approval"] == [
        {"tool": "shell", "when": "rm*", "policy": "deny"},
        {"tool": "files", "when": ".env", "policy": "deny"},
    ]
    for said in (
        "reviewer.md:1: the front matter is no YAML",
        "reviewer.md:4: tools: 'Task' was not carried over",
        "reviewer.md:5: model: 'sonnet' was not carried over",
        "reviewer.md:7: skills: 'missing' was not carried over",
        "notes.md:1: begins with no front matter",
        "settings.json:1: permissions.deny: 'What' was not carried over",
        "AGENTS.md:2: 'docs/more.md' was not taken in",
        "CLAUDE.md:1: was passed over",
    ):
        assert said in done.stderr, said
    assert "values.yaml" not in done.stderr
    assert command.run("validate", "-f", "out/code-reviewer").exit_code == 0


def test_agents_of_docker_agent_come_over(command: Command) -> None:
    put(
        command.folder / "team.yaml",
        """
models:
  gpt: {provider: openai, model: gpt-4o, max_tokens: 100, thinking_budget: low, token_key: X}
permissions:
  deny: ["shell:cmd=rm *"]
  allow: ["read_file", "what:ever=1"]
mcps:
  look: {command: serve, args: [--now], env: {API_KEY: "${API_KEY}"}}
agents:
  root:
    model: gpt
    description: Leads.
    instruction: |
      Lead.
    sub_agents: [other]
    structured_output: {name: x, schema: {type: object, properties: {a: {type: string}}}}
    toolsets:
      - type: shell
      - type: filesystem
        tools: [read_file]
      - {type: mcp, ref: look, tools: [a]}
      - {type: mcp, ref: "docker:brave"}
      - type: mcp
        remote: {url: "https://mcp.example.com/x", transport_type: sse}
      - type: think
      - type: script
        shell:
          list_images: {cmd: "echo $img", description: List., args: {img: {description: Image}}}
          bad name: {cmd: x}
  other: {model: google/gemini, instruction: Do., max_iterations: 3}
  empty: {model: gpt}
""",
    )

    done = command.run("import", "team.yaml", "--json")

    assert done.exit_code == 0, done.stderr
    assert [agent["name"] for agent in json.loads(done.stdout)["agents"]] == ["team", "team-other"]
    spec = spec_of(command.folder / "agents/team/agent.yaml")
    assert spec["model"] == "openai:gpt-4o"
    assert spec["modelSettings"] == {"maxTokens": 100, "thinking": "low"}
    assert spec["tools"] == ["shell", "files"]
    assert spec["mcpServers"] == [
        {
            "name": "look",
            "command": ["serve", "--now"],
            "env": {"API_KEY": {"secret": "API_KEY"}},
            "network": "web",
            "tools": ["a"],
        },
        {"name": "mcp-example-com", "url": "https://mcp.example.com/x"},
    ]
    scripts = spec["scripts"]
    assert len(scripts) == 1
    assert scripts[0]["parameters"] == {
        "type": "object",
        "properties": {"img": {"type": "string", "description": "Image"}},
        "required": ["img"],
        "additionalProperties": False,
    }
    rules = spec["approval"]
    assert {"tool": "shell", "when": "rm *", "policy": "deny"} in rules
    assert rules[-4:] == [
        {"tool": tool, "policy": "ask"} for tool in ("shell", "create_directory", "edit_file", "write_file")
    ]
    assert spec_of(command.folder / "agents/team-other/agent.yaml")["limits"] == {"turns": 3}
    for said in (
        "team.yaml:15: agents.root.sub_agents: was not carried over",
        "docker:brave",
        "over streamable HTTP now",
        "'what:ever=1' was not carried over",
        "agents.empty: was not carried over: it has no `instruction`",
        "'google/gemini' was not carried over",
    ):
        assert said in done.stderr, said


def test_nothing_is_replaced_unasked(command: Command) -> None:
    put(command.folder / "x" / "AGENTS.md", "Be exact.\n")

    first = command.run("import", "x")
    again = command.run("import", "x")
    forced = command.run("import", "x", "--force")

    assert (first.exit_code, again.exit_code, forced.exit_code) == (0, 1, 0)
    assert "it exists already" in again.stderr


def test_a_folder_leads_nowhere_else(command: Command) -> None:
    put(command.folder / "secret.txt", "the secret of somebody\n")
    put(command.folder / "elsewhere" / "a.md", "---\nname: a\n---\nthe secret of somebody\n")
    hostile = command.folder / "hostile"
    (hostile / ".claude").mkdir(parents=True)
    (hostile / "AGENTS.md").symlink_to(command.folder / "secret.txt")
    (hostile / ".claude" / "agents").symlink_to(command.folder / "elsewhere")
    os.mkfifo(hostile / "x.yaml")
    put(hostile / ".mcp.json", '{"mcpServers": {"a": {"command": "x"}}}')

    done = command.run("import", "hostile")

    assert done.exit_code == 0
    assert done.stderr.count("it is a link out of the folder") == 2
    assert "of somebody" not in (command.folder / "agents/hostile/agent.yaml").read_text(encoding="utf-8")


DEEP = "[" * 100_000
HOSTILE = {
    "deep.json": '{"mcpServers": ' + DEEP,
    "closed.json": '{"mcpServers": ' + "[" * 500 + "]" * 500 + "}",
    "comments.json": "/*" * 100_000,
    "quotes.json": '"\\' * 100_000,
    "nan.json": '{"mcpServers": NaN}',
    "list.json": "[1, 2]",
    "kinds.json": '{"mcpServers": {"a": 1, "b": {"command": [], "env": 3}, "c": {"url": ["x"]}, "": {}}}',
    "url.json": '{"mcpServers": {"a": {"url": "file:///etc/passwd"}, "b": {"url": "https://u:pw@x/"}}}',
    "long.json": '{"mcpServers": {"a": {"command": "x", "args": ["' + "${a-" * 40_000 + '"]}}}',
    "names.yaml": "agents: {root: {instruction: x, toolsets: 7, model: [1], description: {}}}",
    "tags.yaml": "agents: !!python/object/apply:os.system [id]",
    "bomb.yaml": "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b]\n"
    "d: &d [*c,*c,*c,*c,*c,*c]\nagents: {root: {instruction: [*d,*d,*d,*d,*d]}}\n",
    "schema.yaml": "agents: {root: {instruction: x, structured_output: {schema: {$ref: 'http://x/y'}}}}",
    "control.yaml": 'agents: {root: {instruction: "a\\u0007\\e[31mb", description: "\\u202e"}}',
    "binary.md": "\x00\x01\x02",
    "front.md": "---\n" + "a: b: c\n" * 20_000,
    "front2.md": "---\nname: [x]\ntools: {a: 1}\n---\nx\n",
    "AGENTS.md": "",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_in_words(command: Command, name: str) -> None:
    put(command.folder / name, HOSTILE[name])

    done = command.run("import", name, "-o", "out")

    assert done.exit_code in (0, 1)
    assert "Traceback" not in done.stderr and "a defect" not in done.stderr
    assert done.stderr.strip()
    assert "\x07" not in done.stderr and "\x1b" not in done.stderr

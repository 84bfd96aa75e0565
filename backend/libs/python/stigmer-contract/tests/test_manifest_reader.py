"""What a person is told about a manifest that is wrong, as whole texts."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stigmer_contract.errors import ManifestError
from stigmer_contract.manifest import AgentManifest
from stigmer_contract.manifest_reader import read_manifests

HEAD = """\
apiVersion: agentic.stigmer.ai/v1
kind: Agent
metadata: {name: writer}
"""
VALID = HEAD + "spec: {instructions: Write.}\n"


def explain(text: str | bytes) -> str:
    """All problems of a text, as the command line prints them."""
    with pytest.raises(ManifestError) as raised:
        read_manifests(text, "agent.yaml")
    lines: list[str] = []
    for problem in raised.value.problems:
        lines.append(str(problem))
        lines += [f"  {problem.hint}"] if problem.hint else []
    return "\n".join(lines) + "\n"


BROKEN = {
    "variables of commands": (
        HEAD + "spec:\n  instructions: Write.\n  tools: [shell]\n  env:\n"
        "    1BAD: x\n    GOOD: {secret: no such}\n"
        "    NEAR: {secrt: A}\n    LIST: [1]\n    NUMBER: 4\n    FINE: {secret: OK}\n",
        """\
agent.yaml:8:5: spec.env.1BAD: '1BAD' is not a variable's name: letters, digits and '_', \
not beginning with a digit
agent.yaml:9:20: spec.env.GOOD.secret: 'no such' is not a secret's name: letters, digits, \
'_', '.' and '-', at most 253 characters
agent.yaml:10:12: spec.env.NEAR.secrt: there is no field 'secrt' here
  did you mean `secret`?
agent.yaml:11:11: spec.env.LIST: must be text, or a mapping such as {secret: NAME}
agent.yaml:12:13: spec.env.NUMBER: must be text, or a mapping such as {secret: NAME}
  put it in quotes: "4"
""",
    ),
    "variables without commands": (
        HEAD + "spec:\n  instructions: Write.\n  tools: [files]\n  env: {A: b}\n",
        """\
agent.yaml:7:8: spec.env: is for the commands of `shell`; add shell to spec.tools
""",
    ),
    "misspelled key": (
        HEAD + "spec:\n  insructions: Write.\n",
        """\
agent.yaml:5:3: spec.insructions: there is no field 'insructions' here
  did you mean `instructions`?
""",
    ),
    "snake case": (
        HEAD + "spec:\n  instructions: Write.\n  mcp_servers: []\n",
        """\
agent.yaml:6:3: spec.mcp_servers: there is no field 'mcp_servers' here
  did you mean `mcpServers`?
""",
    ),
    "key in the wrong place": (
        HEAD + "spec:\n  instructions: Write.\n  turns: 5\nlabels: {}\n",
        """\
agent.yaml:6:3: spec.turns: there is no field 'turns' here
  it belongs under `spec.limits`
agent.yaml:7:1: labels: there is no field 'labels' here
  fields here: apiVersion, kind, metadata, spec
""",
    ),
    "missing fields": (
        "kind: Agent\nmetadata:\nspec:\n  description: x\n",
        """\
agent.yaml:1:1: apiVersion: is missing
  add `apiVersion: agentic.stigmer.ai/v1`: Version of this format
agent.yaml:2:1: metadata: has no value; it must be a mapping
agent.yaml:3:1: spec.instructions: is missing
  add `instructions`: What the model is told before anything else
""",
    ),
    "wrong types": (
        HEAD
        + """\
spec:
  instructions: 5
  description: [a, b]
  tools: shell
  skills: {a: b}
  limits: 7
  modelSettings: {temperature: "0.5", seed: true, topP: 1.5}
""",
        """\
agent.yaml:5:17: spec.instructions: must be text, not 5
  put it in quotes: "5"
agent.yaml:6:16: spec.description: must be text, not a list
agent.yaml:7:10: spec.tools: must be a list, not 'shell'
  write `tools: [shell]`
agent.yaml:8:11: spec.skills: must be a list, not a mapping
agent.yaml:9:11: spec.limits: must be a mapping, not 7
  its fields: turns, tokens, costUsd, duration, modelUnavailable, toolTimeout
agent.yaml:10:32: spec.modelSettings.temperature: must be a number, not '0.5'
  leave the quotes out
agent.yaml:10:45: spec.modelSettings.seed: must be a whole number, not true
agent.yaml:10:57: spec.modelSettings.topP: must be at most 1, not 1.5
""",
    ),
    "limits": (
        HEAD
        + """\
spec:
  instructions: Write.
  limits:
    turns: 0
    costUsd: -1
    duration: 2 hours
    toolTimeout:
""",
        """\
agent.yaml:7:12: spec.limits.turns: must be at least 1, not 0
agent.yaml:8:14: spec.limits.costUsd: must be more than 0, not -1
agent.yaml:9:15: spec.limits.duration: '2 hours' is not a duration; write a number and a unit, \
such as 90s, 10m, 2h or 1d
agent.yaml:10:5: spec.limits.toolTimeout: has no value
  Longest run of one tool call, such as one command
""",
    ),
    "names and choices": (
        """\
apiVersion: agentic.stigmer.ai/v2
kind: agent
metadata: {name: My Writer}
spec:
  instructions: ""
  model: gpt-5
  tools: [shell, fiels, shell]
  approval:
    - {tool: shell, policy: asks}
""",
        """\
agent.yaml:1:13: apiVersion: must be agentic.stigmer.ai/v1, not 'agentic.stigmer.ai/v2'
agent.yaml:2:7: kind: must be Agent, not 'agent'
agent.yaml:3:18: metadata.name: 'My Writer' is not a name: lower-case letters, digits and hyphens, \
at most 63 characters
  did you mean `my-writer`?
agent.yaml:5:17: spec.instructions: must not be empty
  What the model is told before anything else
agent.yaml:6:10: spec.model: 'gpt-5' is not a model; write provider:name, where provider is one of \
openai, anthropic, ollama, openai-compatible, replay, or an endpoint of `llm.endpoints`
agent.yaml:7:18: spec.tools[1]: must be one of shell, files, wait, web, not 'fiels'
  did you mean `files`?
agent.yaml:9:29: spec.approval[0].policy: must be one of ask, allow, deny, not 'asks'
  did you mean `ask`?
""",
    ),
    "servers": (
        HEAD
        + """\
spec:
  instructions: Write.
  tools: [shell, shell]
  mcpServers:
    - {name: a, command: [x], env: {PORT: 80, KEY: {secrt: K}, NONE: , LIST: [x]}}
    - {name: a, command: [x], url: "http://x"}
    - {name: b, url: "ftp://x"}
""",
        """\
agent.yaml:6:10: spec.tools: names 'shell' twice
agent.yaml:8:43: spec.mcpServers[0].env.PORT: must be text, or a mapping such as {secret: NAME}
  put it in quotes: "80"
agent.yaml:8:53: spec.mcpServers[0].env.KEY.secrt: there is no field 'secrt' here
  did you mean `secret`?
agent.yaml:8:64: spec.mcpServers[0].env.NONE: must be text, or a mapping such as {secret: NAME}
agent.yaml:8:78: spec.mcpServers[0].env.LIST: must be text, or a mapping such as {secret: NAME}
agent.yaml:9:7: spec.mcpServers[1]: give exactly one of command, package and url
agent.yaml:10:22: spec.mcpServers[2].url: must begin with http:// or https://, not 'ftp://x'
""",
    ),
    "words that YAML reads in two ways": (
        HEAD
        + """\
spec:
  instructions: no
  description: 2026-01-01
  model: 10:30
  output: {schema: {on: .nan, min: 017, max: 99999999999999999999}}
""",
        """\
agent.yaml:5:17: spec.instructions: YAML may read `no` as a truth value
  for text put it in quotes: "no"; else write false
agent.yaml:6:16: spec.description: YAML may read `2026-01-01` as a date
  for text put it in quotes: "2026-01-01"
agent.yaml:7:10: spec.model: YAML may read `10:30` as a number in base 8 or 60
  for text put it in quotes: "10:30"
agent.yaml:8:21: spec.output.schema: YAML may read `on` as a truth value
  for text put it in quotes: "on"; else write true
agent.yaml:8:36: spec.output.schema.min: YAML may read `017` as a number in base 8 or 60
  for text put it in quotes: "017"
agent.yaml:8:46: spec.output.schema.max: the number is too large
  for text put it in quotes
""",
    ),
    "keys": (
        HEAD + "spec:\n  instructions: a\n  instructions: b\n  <<: {}\n  1: x\n  [a]: b\n",
        """\
agent.yaml:6:3: spec.instructions: the key 'instructions' stands here twice, first in line 5
  keep one of them
agent.yaml:7:3: spec: merge keys (`<<`) are not supported
  write the fields out
agent.yaml:8:3: spec: the key '1' is not text
  put it in quotes: "1"
agent.yaml:9:3: spec: a key must be text, not a list or a mapping
""",
    ),
    "tag": (
        HEAD + "spec: {instructions: !!python/name:os.system x}\n",
        """\
agent.yaml:4:22: spec.instructions: the tag `python/name:os.system` is not supported
  leave the tag out
""",
    ),
    "tab": (
        HEAD + "spec:\n\tinstructions: Write.\n",
        "agent.yaml:5:1: a tab cannot indent\n  use spaces\n",
    ),
    "colon in a text": (
        HEAD + "spec:\n  instructions: Write: a text\n",
        "agent.yaml:5:22: a colon is not possible here\n"
        "  put a text that holds `: ` in quotes, or correct the indentation\n",
    ),
    "indentation": (
        HEAD + "spec:\n  instructions: Write.\n model: openai:gpt-5\n",
        "agent.yaml:6:2: the indentation does not fit\n"
        "  let the keys of one mapping begin in the same column; put a text with quotes inside in quotes\n",
    ),
    "open quote": (
        HEAD + 'spec:\n  instructions: "Write.\n',
        "agent.yaml:5:17: a quote is opened and never closed\n  close it, or double it inside the text\n",
    ),
    "text that begins with a sign": (
        HEAD + "spec: {instructions: @all}\n",
        "agent.yaml:4:22: a value cannot begin with '@'\n  put the text in quotes\n",
    ),
    "other bytes": (
        HEAD.encode() + b"spec:\n  instructions: caf\xe9\n",
        "agent.yaml:5:20: byte 0xe9 is not UTF-8 text\n  save the file in the encoding UTF-8\n",
    ),
    "NUL": (
        HEAD + "spec: {instructions: a\0}\n",
        "agent.yaml:4:23: the control character U+0000 cannot stand in YAML\n"
        "  delete it, or write it as an escape in double quotes\n",
    ),
    "no mapping": (
        "- a\n---\ntext\n",
        """\
agent.yaml:1:1: a manifest must be a mapping, not a list
  begin with `apiVersion:`
agent.yaml:3:1: a manifest must be a mapping, not 'text'
  begin with `apiVersion:`
""",
    ),
    "nothing": (
        "# nothing\n---\n",
        "agent.yaml:1:1: there is no manifest in here\n  write one, or let `stigmer init` write it\n",
    ),
    "same name twice": (
        VALID + "---\n" + VALID,
        "agent.yaml:8:18: metadata.name: 'writer' names the agent of line 3 already\n  choose another name\n",
    ),
    "alias bomb": (
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{key}: &{key} [{', '.join([f'*{before}'] * 10)}]\n"
            for before, key in zip("abcdef", "bcdefg", strict=True)
        ),
        """\
agent.yaml:1:35: d[7][8][8][9]: the document grows too large when its aliases are followed
  write fewer aliases
""",
    ),
    "alias to itself": (
        HEAD + "spec: &a {instructions: Write., output: *a}\n",
        "agent.yaml:4:33: spec.output: the alias refers to what it stands in\n",
    ),
    "deep nesting": (
        "[" * 1000,
        "agent.yaml:1:65: nested deeper than 64 levels\n",
    ),
    "long text": (
        "#" * 300_000,
        "agent.yaml:1:1: the text is longer than 256 KiB\n",
    ),
}


@pytest.mark.parametrize(("text", "explanation"), BROKEN.values(), ids=BROKEN.keys())
def test_every_problem_is_told_with_its_place_and_what_would_be_right(
    text: str | bytes, explanation: str
) -> None:
    told = explain(text)
    assert told == explanation


def test_a_text_may_hold_several_agents_and_empty_documents() -> None:
    text = "\ufeff---\n" + VALID + "---\n---\n" + VALID.replace("writer", "reader")

    manifests = read_manifests(text.encode(), "agent.yaml")

    assert [manifest.metadata.name for manifest in manifests] == ["writer", "reader"]


def test_anchors_and_numbers_as_people_write_them_are_read() -> None:
    text = HEAD + (
        "spec:\n  instructions: &text Write.\n  description: *text\n"
        "  limits: {tokens: 2_000_000, costUsd: 1.5, duration: 1h30m}\n  modelSettings: {temperature: 1e-1}\n"
    )

    spec = read_manifests(text, "agent.yaml")[0].spec

    assert spec.description == "Write."
    assert (spec.limits.tokens, str(spec.limits.cost_usd)) == (2_000_000, "1.5")
    assert spec.limits.duration is not None
    assert spec.limits.duration.total_seconds() == 5400
    assert spec.model_settings.temperature == 0.1


_PIECES = st.sampled_from(
    [
        *("apiVersion: agentic.stigmer.ai/v1\n", "kind: Agent\n", "metadata: {name: a}\n", "spec:\n"),
        *(
            "  instructions: x\n",
            "  tools: [shell]\n",
            "  limits: {turns: 1}\n",
            "\t",
            "- ",
            ": ",
            "&a ",
            "*a",
        ),
        *("[", "]", "{", "}", "'", '"', "|\n", ">-\n", "? ", "!!int ", "!x ", "%YAML 1.1\n", "---\n", "..."),
        *(
            "0x",
            "0b",
            "1_0",
            ".inf",
            "1e5",
            "12:30",
            "~",
            "no",
            "=",
            "<<: ",
            "\\",
            "\r",
            "\u2028",
            "\U0001f600",
        ),
        *("2026-01-01", "#", "@", "`", "1" * 5000, "%TAG ! x\n", '"\\UFFFFFFFF"', '"\\ud800"', "-" * 40),
    ]
)


@given(st.binary(max_size=200) | st.lists(_PIECES, max_size=30).map(lambda pieces: "".join(pieces).encode()))
@example(b'"\\UFFFFFFFF"')
@example(b'a: "\\ud800"')
@example(b"&a [*a, *a]")
@example((HEAD + "spec: {instructions: a, output: {schema: {a: 1e999}}}").encode())
@example(b"%YAML 9999999999.1\n---\na")
@settings(max_examples=1500, deadline=None)
def test_no_bytes_make_it_fail_in_any_other_way(content: bytes) -> None:
    try:
        manifests = read_manifests(content, "agent.yaml")
    except ManifestError as error:
        assert error.problems
        assert all(problem.line >= 1 and problem.column >= 1 for problem in error.problems)
        for problem in error.problems:
            str(problem).encode()  # can be printed
    else:
        for manifest in manifests:
            assert AgentManifest.model_validate_json(manifest.model_dump_json(by_alias=True)) == manifest

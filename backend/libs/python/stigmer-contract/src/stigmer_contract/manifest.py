"""The manifest: the YAML document in which a person writes an agent.

Parses and validates every field. Which of them the runner can already honour is `unsupported_fields`;
a field that cannot be honoured is refused when the agent runs, never ignored. Reading the YAML text
and naming lines and columns is `manifest_reader`'s work.
"""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, JsonValue, ValidationInfo, field_validator
from pydantic.json_schema import GenerateJsonSchema

from stigmer_contract.artifacts import MAX_ARTIFACT_PATTERNS, ArtifactPattern
from stigmer_contract.isolation_words import Network
from stigmer_contract.manifest_approval import MAX_APPROVAL_RULES, ApprovalRule
from stigmer_contract.manifest_client_tools import ClientTool
from stigmer_contract.manifest_mcp import McpServer, unique_servers
from stigmer_contract.manifest_openapi import MAX_DOCUMENTS, OpenApi
from stigmer_contract.manifest_parts import (
    DNS_LABEL,
    Duration,
    Environment,
    ManifestPart,
    Patience,
    SecretReference,
    check_unique,
    secrets_among,
    unique,
)
from stigmer_contract.manifest_scripts import Script
from stigmer_contract.manifest_skills import Skill, WrittenSkill
from stigmer_contract.manifest_web import Web
from stigmer_contract.model_names import split_model
from stigmer_contract.output_schemas import check_output_schema

API_VERSION = "agentic.stigmer.ai/v1"


def _check_model(model: str) -> str:
    split_model(model)
    return model


ModelName: TypeAlias = Annotated[str, AfterValidator(_check_model)]


def _unique_scripts(scripts: list[Script]) -> list[Script]:
    check_unique([script.name for script in scripts])
    return scripts


def _unique_skills(skills: list[Skill]) -> list[Skill]:
    check_unique([skill.name or skill.place for skill in skills])
    return skills


class Metadata(ManifestPart):
    """What names the agent."""

    name: str = Field(pattern=DNS_LABEL, examples=["report-writer"])
    """Unique name: lower-case letters, digits and hyphens, at most 63 characters."""


class ModelSettings(ManifestPart):
    """How the model is asked. What is left out keeps the provider's default."""

    temperature: float | None = Field(default=None, strict=True, ge=0, le=2)
    """Randomness from 0 to 2."""
    top_p: float | None = Field(default=None, strict=True, gt=0, le=1)
    """Nucleus sampling: share of probability to choose from."""
    max_tokens: int | None = Field(default=None, strict=True, gt=0)
    """Most tokens of one answer."""
    seed: int | None = Field(default=None, strict=True)
    """Seed for providers that sample reproducibly."""
    timeout: Duration | None = None
    """Longest wait for the first piece of an answer, and between two pieces of it; default 10m. The whole may
    take longer."""
    thinking: Literal["minimal", "low", "medium", "high"] | None = None
    """How hard a reasoning model thinks."""


def _check_schema(schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    check_output_schema(schema)
    return schema


class Output(ManifestPart):
    """The form of the final answer."""

    schema_: Annotated[dict[str, JsonValue], AfterValidator(_check_schema)] = Field(alias="schema")
    """JSON Schema (draft 2020-12) of an object, at most 32 levels deep; nothing outside of it is fetched."""


class Context(ManifestPart):
    """What the agent is told beside its instructions and the person's words, and how its conversation stays
    below the model's context window."""

    window: int | None = Field(default=None, strict=True, ge=1024, le=100_000_000, examples=[200_000])
    """Tokens that the model takes at most; left out: what is known of the model, or its provider says."""
    compact_at: float = Field(default=0.8, ge=0.1, le=0.95)
    """Share of the window from which on the conversation is compacted before it is sent."""
    keep: int | None = Field(default=None, strict=True, ge=1, le=1000)
    """Most of the newest turns that a compaction leaves as they are; left out: as many as fit into a fifth
    of the window or so."""
    tools: Literal["clear", "keep"] = "clear"
    """Whether old results of tools are cleared first, or go into the summary at once (`keep`)."""
    tool_search_at: float = Field(default=0.1, ge=0, le=1)
    """Share of the window beyond which tools of MCP servers and APIs are not all shown: the agent finds the
    others by words. 1: all are always shown; 0: none is, until it is searched for."""
    environment: bool = Field(default=True, strict=True)
    """Where it works (shell, network, programs, time zone), the date, and what is left of its limits."""
    agents_file: bool = Field(default=True, strict=True)
    """`AGENTS.md` of the workspace, marked as not the person's words; at most 32 KiB of it."""


class Limits(ManifestPart):
    """What an execution may use at most, over all its legs and crashes."""

    turns: int = Field(default=100, strict=True, ge=1)
    """Model answers."""
    tokens: int | None = Field(default=None, strict=True, ge=1)
    """Input and output tokens together."""
    cost_usd: Decimal | None = Field(default=None, gt=0)
    """US dollars, by the known prices; a model without a known price is then refused."""
    duration: Duration | None = None
    """Time from creation to end. That it waits or has failed does not count, nor that a clock is set anew."""
    model_unavailable: Patience | None = None
    """How long a model that is away is waited for, or `forever`; default 30m, or until the provider says
    that it will be back."""
    tool_timeout: Duration = timedelta(minutes=10)
    """Longest run of one tool call, such as one command."""


class AgentSpec(ManifestPart):
    """What the agent is and may do."""

    description: str = ""
    """One sentence for people who choose an agent."""
    instructions: str = Field(min_length=1)
    """What the model is told before anything else."""
    model: ModelName | None = Field(default=None, examples=["openai:gpt-5", "anthropic:claude-sonnet-4-5"])
    """`provider:name`; left out: the runner's `STIGMER_LLM_PROVIDER` and `STIGMER_LLM_MODEL`."""
    model_settings: ModelSettings = ModelSettings()
    """How the model is asked."""
    tools: Annotated[list[Literal["shell", "files", "wait", "web"]], AfterValidator(unique)] = Field(
        default_factory=list[Literal["shell", "files", "wait", "web"]]
    )
    """Built-in toolsets: `shell` and `files` work in the session's workspace; with `wait` the agent waits for
    a message or a time, at no cost; with `web` it reads pages of the web."""
    web: Web | None = None
    """What the toolset `web` may read, and where it searches."""
    ask_user: bool = Field(default=False, strict=True)
    """Whether the agent may ask people questions, with the tool `ask_user`; while nobody answers it waits, at
    no cost."""
    network: Network = "none"
    """What commands may reach: nothing, HTTPS (TCP port 443 and name resolution over TCP), or everything."""
    env: Environment = Field(default_factory=dict[str, str | SecretReference])
    """Environment of the commands of `shell`: texts, and secrets as `{secret: NAME}`."""
    mcp_servers: Annotated[list[McpServer], AfterValidator(unique_servers)] = Field(
        default_factory=list[McpServer]
    )
    """Servers of further tools."""
    skills: Annotated[list[WrittenSkill], AfterValidator(_unique_skills)] = Field(
        default_factory=list[Skill], max_length=256
    )
    """Folders with a `SKILL.md`, relative to the manifest; the agent reads them when it needs them."""
    scripts: Annotated[list[Script], AfterValidator(_unique_scripts)] = Field(
        default_factory=list[Script], max_length=64
    )
    """Tools of the agent's own: programs that read their arguments as JSON."""
    openapi: list[OpenApi] = Field(default_factory=list[OpenApi], max_length=MAX_DOCUMENTS)
    """HTTP APIs by their OpenAPI documents: each operation is a tool."""
    client_tools: list[ClientTool] = Field(default_factory=list[ClientTool], max_length=64)
    """Tools that whoever is connected carries out; the agent waits for their results."""
    sub_agents: Annotated[list[Annotated[str, Field(pattern=DNS_LABEL)]], AfterValidator(unique)] = Field(
        default_factory=list[str]
    )
    """Applied agents that this one may hand work to."""
    output: Output | None = None
    """The form of the final answer; left out: text."""
    approval: list[ApprovalRule] = Field(default_factory=list[ApprovalRule], max_length=MAX_APPROVAL_RULES)
    """Which tool calls a person is asked about, and which are refused; without a match they run."""
    artifacts: Annotated[list[ArtifactPattern], AfterValidator(unique)] = Field(
        default_factory=list[ArtifactPattern],
        max_length=MAX_ARTIFACT_PATTERNS,
        examples=[["report.md", "out/**"]],
    )
    """Files that are kept when an execution ends: paths in the workspace, with `*`, `?`, `**`, `[…]` and
    `{a,b}`."""
    limits: Limits = Limits()
    """What an execution may use at most."""
    context: Context = Context()
    """What the agent is told by itself."""
    snapshots: bool | None = Field(default=None, strict=True)
    """Whether what the files were is kept around each step that may change them; left out: in directories of
    sessions' own, not in one that was given with `--workspace`."""

    @field_validator("env")
    @classmethod
    def _env_has_commands(cls, env: Environment, info: ValidationInfo) -> Environment:
        # `tools` is checked before; where it is wrong itself, that is told instead.
        if env and "shell" not in info.data.get("tools", ["shell"]):
            raise ValueError("is for the commands of `shell`; add shell to spec.tools")
        return env

    @field_validator("web")
    @classmethod
    def _web_has_tools(cls, web: Web | None, info: ValidationInfo) -> Web | None:
        if web is not None and "web" not in info.data.get("tools", ["web"]):
            raise ValueError("is for the toolset `web`; add web to spec.tools")
        return web

    def takes_snapshots(self, workspace: str | None) -> bool:
        """Whether snapshots are taken of a session's workspace; None: its own directory."""
        return workspace is None if self.snapshots is None else self.snapshots

    @field_validator("openapi")
    @classmethod
    def _apis_have_names_of_their_own(cls, apis: list[OpenApi], info: ValidationInfo) -> list[OpenApi]:
        servers: list[McpServer] = info.data.get("mcp_servers", [])
        check_unique([*(server.name for server in servers), *(api.name for api in apis)])
        return apis

    @field_validator("client_tools")
    @classmethod
    def _tools_have_names_of_their_own(
        cls, client_tools: list[ClientTool], info: ValidationInfo
    ) -> list[ClientTool]:
        scripts: list[Script] = info.data.get("scripts", [])
        check_unique([*(script.name for script in scripts), *(tool.name for tool in client_tools)])
        return client_tools

    @property
    def secret_names(self) -> list[str]:
        """The secrets that the agent's tools are given, in order of the names."""
        environments = [self.env, *(script.env for script in self.scripts)]
        values = [value for environment in environments for value in environment.values()]
        outside = (*self.mcp_servers, *self.openapi, *([] if self.web is None else [self.web]))
        return sorted(secrets_among(values).union(*(each.secret_names for each in outside)))

    @property
    def networks(self) -> dict[str, Network]:
        """What anything of the agent's may reach, by the field that says so."""
        scripts: dict[str, Network] = {
            f"spec.scripts[{at}].network": each.network for at, each in enumerate(self.scripts)
        }
        servers: dict[str, Network] = {
            # The runner itself reaches one at a url, wherever that is.
            f"spec.mcpServers[{at}].network": each.network if each.url is None else "all"
            for at, each in enumerate(self.mcp_servers)
        }
        apis: dict[str, Network] = {
            f"spec.openapi[{at}].server": each.network for at, each in enumerate(self.openapi)
        }
        # It reads pages by HTTPS, whatever commands may reach.
        web: dict[str, Network] = {"spec.tools": "web"} if "web" in self.tools else {}
        return {"spec.network": self.network, **web, **scripts, **servers, **apis}

    @property
    def unpacked(self) -> list[str]:
        """What was not packed with the manifest, in words: skills, documents of APIs, packages of servers."""
        skills = [f"the skill {skill.place!r}" for skill in self.skills if skill.pack is None]
        apis = [f"the OpenAPI document {api.document!r}" for api in self.openapi if api.pack is None]
        servers = [
            f"the package {server.package!r}"
            for server in self.mcp_servers
            if server.package is not None and server.fetched is None
        ]
        return [*skills, *apis, *servers]

    @property
    def packs(self) -> list[str]:
        """The SHA-256 of each pack of files that the agent's tools need."""
        packs = [each.pack for each in (*self.scripts, *self.skills, *self.openapi)]
        for server in self.mcp_servers:
            packs += [] if server.fetched is None else server.fetched.packs.values()
        references = [pack for pack in packs if pack is not None]
        return list(dict.fromkeys(reference.removeprefix("sha256:") for reference in references))


class AgentManifest(ManifestPart):
    """One agent, as a person writes it and `stigmer apply` sends it."""

    api_version: Literal["agentic.stigmer.ai/v1"]
    """Version of this format."""
    kind: Literal["Agent"]
    """What the document describes."""
    metadata: Metadata
    spec: AgentSpec


def unsupported_fields(spec: AgentSpec) -> list[str]:
    """Paths of the fields that are set but whose feature does not exist yet, such as `spec.output`."""
    not_yet = {
        "spec.subAgents": spec.sub_agents,
    }
    return [path for path, value in not_yet.items() if value]


class _SchemaWithoutTitles(GenerateJsonSchema):
    """Leaves out titles such as `Costusd`, which editors would show in the place of the field's name."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def manifest_json_schema() -> dict[str, JsonValue]:
    """JSON Schema (draft 2020-12) of a manifest, for editors; generated, never edited."""
    schema: dict[str, JsonValue] = AgentManifest.model_json_schema(
        by_alias=True, schema_generator=_SchemaWithoutTitles
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://stigmer.ai/schemas/agent.schema.json",
        **schema,
    }

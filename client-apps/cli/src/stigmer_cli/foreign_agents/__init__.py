"""Reads what other programs call agents, and makes manifests of it. Pure: opens no file, writes none."""

from stigmer_cli.foreign_agents.claude_code import ClaudeAgents, read_claude_agent, read_claude_settings
from stigmer_cli.foreign_agents.docker_agents import is_docker_agents, read_docker_agents
from stigmer_cli.foreign_agents.foreign_documents import (
    ForeignDocument,
    Remark,
    read_foreign_json,
    read_foreign_yaml,
)
from stigmer_cli.foreign_agents.instructions_files import read_instructions
from stigmer_cli.foreign_agents.mcp_clients import read_mcp_servers
from stigmer_cli.foreign_agents.written_agents import ImportedAgent, agent_name, write_manifest

__all__ = [
    "ClaudeAgents",
    "ForeignDocument",
    "ImportedAgent",
    "Remark",
    "agent_name",
    "is_docker_agents",
    "read_claude_agent",
    "read_claude_settings",
    "read_docker_agents",
    "read_foreign_json",
    "read_foreign_yaml",
    "read_instructions",
    "read_mcp_servers",
    "write_manifest",
]

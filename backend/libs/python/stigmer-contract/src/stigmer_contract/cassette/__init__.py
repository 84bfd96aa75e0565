"""The cassette: recorded model turns that the model `replay:` plays again, as YAML that a person can edit.

Knows the format and how an execution's log becomes one. Comparing a conversation with a cassette, and
playing it, is the runner's work.

A cassette holds the answers of a model in order, each with what the model had been told just before. A
turn that expects a prompt begins an execution. A cassette that begins one execution only fits any
execution with that prompt, wherever it stands in a session; a cassette that begins several covers a
session from its first execution on.
"""

from stigmer_contract.cassette.format import (
    Cassette,
    CassetteToolCall,
    CassetteUsage,
    Expectation,
    ExpectedResult,
    Judgement,
    Turn,
)
from stigmer_contract.cassette.recording import cassette_from_events
from stigmer_contract.cassette.text import dump_cassette, load_cassette

__all__ = [
    "Cassette",
    "CassetteToolCall",
    "CassetteUsage",
    "Expectation",
    "ExpectedResult",
    "Judgement",
    "Turn",
    "cassette_from_events",
    "dump_cassette",
    "load_cassette",
]

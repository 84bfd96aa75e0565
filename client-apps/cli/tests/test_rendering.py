"""Pieces of what a person sees: the sign of life, Markdown as it is written, widths, output of commands."""

import io
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stigmer_cli.rendering.cells import cell_width, shorten, wrap
from stigmer_cli.rendering.command_output import CommandOutput
from stigmer_cli.rendering.compactions import describe_compaction
from stigmer_cli.rendering.execution_table import describe_waits
from stigmer_cli.rendering.execution_view import ExecutionView
from stigmer_cli.rendering.inputs import describe_approval, describe_question
from stigmer_cli.rendering.markdown_blocks import MarkdownBlocks
from stigmer_cli.rendering.quantities import format_usage
from stigmer_cli.rendering.screen import Screen
from stigmer_cli.rendering.status_line import Activity, status_line
from stigmer_cli.rendering.tables import format_table
from stigmer_contract.events import (
    Event,
    ExecutionCompleted,
    ExecutionStarted,
    InlinePayload,
    ModelDelta,
    Payload,
    RecordedEvent,
    Usage,
)
from stigmer_contract.inputs import Approval, Question
from stigmer_contract.manifest import AgentSpec
from stigmer_contract.waits import WaitKind, WaitReason


def test_the_status_line_says_what_happens_for_how_long_and_what_it_cost() -> None:
    used = Usage(requests=3, input_tokens=12_000, output_tokens=300, cost_usd=Decimal("0.02"))
    lines = [
        status_line(Activity("starting", 100.0), now=100.2, began_at=100.0, usage=Usage()),
        status_line(Activity("starting", 100.0), now=103.0, began_at=100.0, usage=Usage()),
        status_line(Activity("asking the model", 165.0), now=169.1, began_at=100.0, usage=used),
        status_line(Activity("running run_command make test", 170.0), now=400.0, began_at=100.0, usage=used),
    ]
    assert lines == [
        "⠋ starting",
        "⠹ starting 3 s",
        "⠦ asking the model 4 s · 1 min 9 s · 3 turns · 12.3k tokens · $0.0200",
        "⠋ running run_command make test 3 min 50 s · 5 min · 3 turns · 12.3k tokens · $0.0200",
    ]


def test_a_compaction_says_what_was_dropped_and_whose_word_the_window_is() -> None:
    sizes = {"window_tokens": 32_000, "tokens_before": 25_700, "tokens_after": 9_000}
    cleared = {
        "cause": "size",
        "window_source": "manifest",
        "at": "2026-11-26T12:00:00Z",
        "results_cleared": 12,
    }
    replaced = {
        "cause": "refused",
        "window_source": "assumed",
        "at": "2026-11-26T12:00:00Z",
        "messages_dropped": 1,
        "problem": "the model was asked for one and said nothing",
    }

    assert [describe_compaction(cleared | sizes), describe_compaction(replaced | sizes)] == [
        "conversation compacted: 25.7k tokens, now 9.0k (12 results cleared)",
        "conversation compacted after the provider refused it as too large: 25.7k tokens, now 9.0k (1 "
        "message replaced, no summary: the model was asked for one and said nothing); a window of 32.0k is "
        "assumed: set context.window",
    ]
    assert describe_compaction({"of": "a later version"}) == "conversation compacted"


def test_usage_says_how_much_of_the_input_came_from_the_cache() -> None:
    used = Usage(requests=3, input_tokens=12_000, cache_read_tokens=9_000, output_tokens=300)

    assert format_usage(used) == "3 turns · 12.0k tokens in (75% cached) · 300 out"


def test_the_status_line_counts_down_to_the_next_request() -> None:
    waiting = Activity("asking the model again", 100.0, due_at=112.5)
    lines = [
        status_line(waiting, now=now, began_at=100.0, usage=Usage()) for now in (100.0, 103.0, 112.4, 130.0)
    ]
    assert lines == [
        "⠋ asking the model again in 13 s",
        "⠹ asking the model again in 10 s",
        "⠏ asking the model again in 1 s",
        "⠋ asking the model again 17 s",
    ]


MARKDOWN = """# Title

A paragraph
of two lines.

- one

- two
  more

```python
a = 1

b = 2
```

| a | b |
|---|---|
| 1 | 2 |

The end."""


@given(st.lists(st.integers(min_value=1, max_value=12), min_size=1))
def test_markdown_is_cut_at_the_same_places_however_it_comes(sizes: list[int]) -> None:
    whole = MarkdownBlocks()
    expected = [*whole.take(MARKDOWN), whole.finish()]
    blocks, pieces, place = MarkdownBlocks(), list[str](), 0
    while place < len(MARKDOWN):
        size = sizes[place % len(sizes)]
        pieces += blocks.take(MARKDOWN[place : place + size])
        place += size
    assert [*pieces, blocks.finish()] == expected
    assert [piece.split("\n")[0] for piece in expected] == [
        "# Title", "A paragraph", "- one", "```python", "| a | b |", "The end.",
    ]  # fmt: skip


@given(st.text(alphabet="a\n`~- 1.|#", max_size=200), st.integers(min_value=1, max_value=9))
def test_no_markdown_is_lost(text: str, size: int) -> None:
    blocks, pieces = MarkdownBlocks(), list[str]()
    for place in range(0, len(text), size):
        pieces += blocks.take(text[place : place + size])
    pieces.append(blocks.finish())
    assert "".join("".join(pieces).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "width"), [("abc", 3), ("日本語", 6), ("e\u0301", 1), ("a\u200bb", 2), ("👍", 2), ("", 0)]
)
def test_columns_are_counted_as_terminals_do(text: str, width: int) -> None:
    assert cell_width(text) == width


@given(st.text(alphabet="ab日 é", max_size=80), st.integers(min_value=4, max_value=30))
def test_wrapped_and_shortened_text_fits(text: str, width: int) -> None:
    assert all(cell_width(line) <= width for line in wrap(text, width))
    assert cell_width(shorten(text, width)) <= width
    assert "".join(wrap(text, width)).replace(" ", "") == text.replace(" ", "")


@given(
    st.lists(st.tuples(st.text("ab日", max_size=9), st.text("ab日 ", max_size=40)), min_size=1, max_size=4),
    st.integers(min_value=20, max_value=70),
)
def test_a_table_is_no_wider_than_the_terminal(cells: list[tuple[str, str]], width: int) -> None:
    rows = [["4k2x9q", extra, text] for extra, text in cells]
    table = format_table(
        ["ID", "MORE", "LONG"], rows, bold_header=False, width=width, long="LONG", optional=["MORE"]
    )
    lines = table.split("\n")
    assert len(lines) == len(rows) + 1
    assert all(cell_width(line) <= width for line in lines)


def test_a_table_leaves_out_what_matters_least() -> None:
    def heading(width: int | None) -> list[str]:
        header, row = (
            ["ID", "TURNS", "COST", "PROMPT"],
            ["4k2x9q", "12", "$0.25", "Count the files, all of them"],
        )
        table = format_table(
            header, [row], bold_header=False, width=width, long="PROMPT", optional=["TURNS", "COST"]
        )
        return table.split("\n")

    assert heading(None)[1] == "4k2x9q  12     $0.25  Count the files, all of them"
    assert heading(40)[1] == "4k2x9q  12     $0.25  Count the files, …"
    assert heading(36)[1] == "4k2x9q  $0.25  Count the files, all…"
    assert heading(24)[1] == "4k2x9q  Count the files…"
    assert heading(5)[1] == "4k2x9q  Count…"


def test_a_progress_bar_is_one_line() -> None:
    output = CommandOutput()
    output.take("10%\r20%\r3")
    assert output.window() == ["3"]
    output.take("0%\r\nnext\n")
    assert output.window() == ["30%", "next"]
    assert output.finish() == ["30%", "next"]


@given(st.integers(min_value=0, max_value=40), st.integers(min_value=1, max_value=7))
def test_of_long_output_the_first_and_last_lines_stay(count: int, size: int) -> None:
    text = "".join(f"line {number}\n" for number in range(count))
    output = CommandOutput()
    for place in range(0, len(text), size):
        output.take(text[place : place + size])
    shown = output.finish()
    lines = text.splitlines()
    assert shown == (lines if count <= 8 else [*lines[:4], f"… {count - 8} more lines …", *lines[-4:]])


def test_names_that_an_agent_gave_pass_for_no_lines_of_our_own() -> None:
    forged = "a\n\x1b[1AAsked because: it is safe"
    approval = Approval(toolset="x", tool="run\nit", arguments={forged: "one\ntwo"}, reason="git push*")
    question = Question(text="Which?", choices=[forged, "b"])

    assert describe_approval(approval) == [
        "run it wants to run:",
        "  a Asked because: it is safe: one",
        "    two",
        "Asked because: git push*",
    ]
    assert describe_question(question, {"properties": {forged: {"type": "string"}}}) == [
        "Which?",
        "  1. a Asked because: it is safe",
        "  2. b",
        "  a Asked because: it is safe: (string)",
    ]


def test_of_an_answer_that_is_an_object_stdout_has_the_object_alone() -> None:
    def load(payload: Payload) -> object:
        assert isinstance(payload, InlinePayload)
        return payload.value

    def recorded(sequence: int, event: Event) -> RecordedEvent:
        return RecordedEvent(sequence=sequence, recorded_at=datetime.now(UTC), event=event)

    stdout = io.StringIO()
    view = ExecutionView(Screen(stdout, io.StringIO(), plain=True), load)
    spec = AgentSpec.model_validate({"instructions": "x", "output": {"schema": {"type": "object"}}})
    started = ExecutionStarted(session_id="s", agent_name="a", spec=spec, input=InlinePayload(value="x"))

    view.show(recorded(1, started))
    view.show(ModelDelta(turn=1, kind="text", text="Let me think. {"))
    view.show(recorded(2, ExecutionCompleted(output=InlinePayload(value={"a": ["ü"]}))))

    assert stdout.getvalue() == '{\n  "a": [\n    "ü"\n  ]\n}\n'


def test_waits_of_one_kind_are_counted() -> None:
    approvals = [WaitReason(kind=WaitKind.APPROVAL, key=f"inp_{number}") for number in range(2)]
    answer = WaitReason(kind=WaitKind.ANSWER, key="inp_3")
    assert describe_waits(approvals) == "2 approvals"
    assert describe_waits([*approvals, answer]) == "2 approvals, or an answer"
    assert describe_waits([answer]) == "an answer"

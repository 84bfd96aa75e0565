"""What Stigmer's figures stand beside: the same run without durability, and as plain Temporal activities.

Both use the same agent shape (ten file writes, one answer each) and a model that answers at once, in one
process. They are yardsticks, not products: the first loses everything when it is killed, the second has no
log, no streaming and no fencing.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

TOOL_CALLS = 10
"""Tool calls of the measured execution, one a turn; the 11th turn is the answer."""


def answer_at_once(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Write ten files, one a turn, then say so."""
    del info
    turn = sum(1 for message in messages if isinstance(message, ModelResponse))
    if turn == TOOL_CALLS:
        return ModelResponse(parts=[TextPart("done")])
    call = ToolCallPart(
        "write_file", {"path": f"file-{turn}.txt", "content": f"content {turn}"}, tool_call_id=f"call-{turn}"
    )
    return ModelResponse(parts=[call])


async def bare_agent_loop(directory: Path, repetitions: int) -> list[float]:
    """Seconds of each run of a plain `pydantic_ai.Agent`."""
    agent = Agent(FunctionModel(answer_at_once), name="bare")

    @agent.tool_plain
    def write_file(path: str, content: str) -> str:
        (directory / path).write_text(content, encoding="utf-8")
        return "written"

    seconds: list[float] = []
    for _ in range(repetitions):
        started = time.perf_counter()
        await agent.run("write ten files")
        seconds.append(time.perf_counter() - started)
    return seconds


@activity.defn
def plain_model(turn: int) -> str:
    """One model answer as an activity."""
    return f"file-{turn}.txt"


@activity.defn
def plain_tool(directory: str, name: str) -> str:
    """One tool call as an activity."""
    (Path(directory) / name).write_text(f"content of {name}", encoding="utf-8")
    return "written"


@workflow.defn
class PlainActivities:
    """The same run with each step as its own activity."""

    @workflow.run
    async def run(self, directory: str) -> str:
        """Ten times model and tool, then the last answer."""
        timeout = timedelta(seconds=30)
        for turn in range(TOOL_CALLS):
            name: str = await workflow.execute_activity(plain_model, turn, start_to_close_timeout=timeout)
            await workflow.execute_activity(
                plain_tool, args=[directory, name], start_to_close_timeout=timeout
            )
        return await workflow.execute_activity(plain_model, TOOL_CALLS, start_to_close_timeout=timeout)


async def plain_activities_loop(client: Client, directory: Path, repetitions: int) -> list[float]:
    """Seconds of each run as a workflow of plain activities, start to result."""
    queue = f"plain-{uuid4().hex}"
    seconds: list[float] = []
    with ThreadPoolExecutor(max_workers=8) as threads:
        worker = Worker(
            client,
            task_queue=queue,
            workflows=[PlainActivities],
            activities=[plain_model, plain_tool],
            activity_executor=threads,
            workflow_runner=UnsandboxedWorkflowRunner(),  # as Stigmer's own
        )
        async with worker:
            for _ in range(repetitions):
                started = time.perf_counter()
                await client.execute_workflow(
                    PlainActivities.run, str(directory), id=f"plain-{uuid4().hex}", task_queue=queue
                )
                seconds.append(time.perf_counter() - started)
    return seconds


def run_bare(directory: Path, repetitions: int) -> list[float]:
    """`bare_agent_loop` from synchronous code."""
    return asyncio.run(bare_agent_loop(directory, repetitions))

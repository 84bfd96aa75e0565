// The calls that views make, in the types of the server's own description.

import type { components } from "./schema";
import { session } from "./session.svelte";

export type Schemas = components["schemas"];
export type Execution = Schemas["ExecutionResource"];
export type Phase = Schemas["ExecutionPhase"];
export type Input = Schemas["InputResource"];
export type Answer = Schemas["ResolveInput"];
export type Payload = Schemas["InlinePayload"] | Schemas["BlobPayload"];
export type Recorded = Schemas["RecordedEvent"];

export interface Page<Item> {
  items: Item[];
  next_cursor?: string | null;
}

export const PHASES: readonly Phase[] = [
  "pending",
  "in_progress",
  "waiting",
  "completed",
  "failed",
  "cancelled",
];

export interface ExecutionFilter {
  phase: string;
  agent: string;
}

const PAGE_SIZE = "50";

export async function listExecutions(filter: ExecutionFilter, cursor?: string): Promise<Page<Execution>> {
  const query = new URLSearchParams({ limit: PAGE_SIZE });
  if (filter.phase !== "") query.set("phase", filter.phase);
  if (filter.agent !== "") query.set("agent", filter.agent);
  if (cursor !== undefined) query.set("cursor", cursor);
  return (await session.call("GET", `/v1/executions?${query}`)) as Page<Execution>;
}

export async function getExecution(id: string): Promise<Execution> {
  return (await session.call("GET", executionPath(id))) as Execution;
}

export async function cancelExecution(id: string): Promise<Execution> {
  return (await session.call("POST", `${executionPath(id)}/cancel`, {})) as Execution;
}

export async function listInputs(executionId?: string): Promise<Page<Input>> {
  const query = new URLSearchParams({ limit: PAGE_SIZE });
  if (executionId !== undefined) query.set("execution_id", executionId);
  return (await session.call("GET", `/v1/inputs?${query}`)) as Page<Input>;
}

/** What an input asks: a `Question`, an `Approval`, … A token that may only decide reads no blobs. */
export async function loadContent(input: Input): Promise<unknown> {
  const path = `/v1/inputs/${encodeURIComponent(input.input_id)}`;
  const whole = input.content.kind === "blob" ? ((await session.call("GET", path)) as Input) : input;
  return loadPayload(whole.content as Payload);
}

export async function resolveInput(id: string, answer: Answer): Promise<Input> {
  return (await session.call("POST", `/v1/inputs/${encodeURIComponent(id)}`, answer)) as Input;
}

/** What a payload holds, wherever it is kept. */
export async function loadPayload(payload: Payload): Promise<unknown> {
  if (payload.kind !== "blob") return payload.value;
  return session.call("GET", `/v1/blobs/${encodeURIComponent(payload.sha256)}`);
}

export function executionPath(id: string): string {
  return `/v1/executions/${encodeURIComponent(id)}`;
}

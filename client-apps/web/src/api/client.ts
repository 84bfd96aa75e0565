// The calls that views make, in the types of the server's own description.

import type { components } from "./schema";
import { session } from "./session.svelte";

export type Schemas = components["schemas"];
export type Execution = Schemas["ExecutionResource"];
export type Session = Schemas["SessionResource"];
export type Agent = Schemas["AgentResource"];
export type Manifest = Schemas["AgentManifest-Input"];
export type Phase = Schemas["ExecutionPhase"];
export type Input = Schemas["InputResource"];
export type Answer = Schemas["ResolveInput"];
export type Usage = Schemas["Usage"];
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
export const UNENDED: readonly Phase[] = ["pending", "in_progress", "waiting"];

export interface ExecutionFilter {
  text?: string;
  phase?: string | readonly Phase[];
  agent?: string;
  owner?: string;
  since?: string;
  min_cost_usd?: string;
  session_id?: string;
}

const PAGE_SIZE = 50;

/** An address with what is asked, but for what is empty. */
function asking(path: string, query: Record<string, string | number | readonly string[] | undefined>): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const each of Array.isArray(value) ? (value as readonly string[]) : [value as string | number | undefined]) {
      if (each !== undefined && each !== "") search.append(name, String(each));
    }
  }
  return search.size === 0 ? path : `${path}?${search}`;
}

async function get<Body>(path: string): Promise<Body> {
  return (await session.call("GET", path)) as Body;
}

/** Make something, once only, however often the call has to be sent. */
async function create<Body>(path: string, body: unknown): Promise<Body> {
  return (await session.call("POST", path, body, { "Idempotency-Key": crypto.randomUUID() })) as Body;
}

// --- executions -------------------------------------------------------------------------------

export function listExecutions(
  filter: ExecutionFilter,
  cursor?: string,
  limit: number = PAGE_SIZE,
): Promise<Page<Execution>> {
  return get(asking("/v1/executions", { limit, cursor, ...filter }));
}

export function getExecution(id: string): Promise<Execution> {
  return get(executionPath(id));
}

export async function cancelExecution(id: string): Promise<Execution> {
  return (await session.call("POST", `${executionPath(id)}/cancel`, {})) as Execution;
}

export function retryExecution(id: string): Promise<Execution> {
  return create(`${executionPath(id)}/retry`, {});
}

export function createExecution(request: Schemas["CreateExecution"]): Promise<Execution> {
  return create("/v1/executions", request);
}

export function sendMessage(id: string, text: string): Promise<Schemas["MessageResource"]> {
  return create(`${executionPath(id)}/messages`, { text } satisfies Schemas["SendMessage"]);
}

export function executionPath(id: string): string {
  return `/v1/executions/${encodeURIComponent(id)}`;
}

// --- inputs -----------------------------------------------------------------------------------

export function listInputs(executionId?: string): Promise<Page<Input>> {
  return get(asking("/v1/inputs", { limit: PAGE_SIZE, execution_id: executionId }));
}

/** What an input asks: a `Question`, an `Approval`, … A token that may only decide reads no blobs. */
export async function loadContent(input: Input): Promise<unknown> {
  const path = `/v1/inputs/${encodeURIComponent(input.input_id)}`;
  const whole = input.content.kind === "blob" ? await get<Input>(path) : input;
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

// --- sessions and agents ----------------------------------------------------------------------

export function listSessions(cursor?: string): Promise<Page<Session>> {
  return get(asking("/v1/sessions", { limit: PAGE_SIZE, cursor }));
}

export function getSession(id: string): Promise<Session> {
  return get(`/v1/sessions/${encodeURIComponent(id)}`);
}

export function listAgents(cursor?: string): Promise<Page<Agent>> {
  return get(asking("/v1/agents", { limit: 200, cursor }));
}

export function getAgent(name: string, owner?: string): Promise<Agent> {
  return get(asking(agentPath(name), { owner }));
}

export async function applyAgent(manifest: Manifest, owner?: string): Promise<Agent> {
  return (await session.call("PUT", asking(agentPath(manifest.metadata.name), { owner }), manifest)) as Agent;
}

export async function deleteAgent(name: string, owner?: string): Promise<void> {
  await session.call("DELETE", asking(agentPath(name), { owner }));
}

export async function validateManifest(text: string): Promise<Schemas["ManifestValidation"]> {
  const request = { text } satisfies Schemas["ValidateManifest"];
  return (await session.call("POST", "/v1/manifests/validate", request)) as Schemas["ManifestValidation"];
}

function agentPath(name: string): string {
  return `/v1/agents/${encodeURIComponent(name)}`;
}

// --- what is going on, and what it cost -------------------------------------------------------

export function getSummary(since: Date): Promise<Schemas["Summary"]> {
  return get(asking("/v1/summary", { since: since.toISOString() }));
}

export function getUsage(times: readonly Date[]): Promise<Schemas["UsageReport"]> {
  return get(asking("/v1/usage", { at: times.map((time) => time.toISOString()) }));
}

export function getStack(): Promise<Schemas["StackState"]> {
  return get("/v1/stack");
}

export function listSecrets(): Promise<Page<Schemas["SecretResource"]>> {
  return get(asking("/v1/secrets", { limit: 200 }));
}

export function listTokens(): Promise<Page<Schemas["TokenResource"]>> {
  return get(asking("/v1/tokens", { limit: 200 }));
}

export function listAudit(cursor?: string): Promise<Page<Schemas["AuditEntry"]>> {
  return get(asking("/v1/audit", { limit: PAGE_SIZE, cursor }));
}

// The calls that views make, in the types of the server's own description.

import type { components } from "./schema";
import { encodePart, inert } from "../parts/text";
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
const LOG_PAGE_SIZE = 500;
/** So long a download may take to begin. */
const KEPT_MS = 60_000;

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

/** What it has in hand ends first. */
export async function pauseExecution(id: string): Promise<Execution> {
  return (await session.call("POST", `${executionPath(id)}/pause`, {})) as Execution;
}

export function resumeExecution(id: string): Promise<Execution> {
  return create(`${executionPath(id)}/resume`, {});
}

export function forkExecution(id: string, request: Schemas["ForkExecution"]): Promise<Execution> {
  return create(`${executionPath(id)}/fork`, request);
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

/** A log's pages from its beginning, ascending. The next one is on its way while one is taken in. */
export async function* readLog(id: string): AsyncGenerator<Recorded[]> {
  const read = (after: string): Promise<Page<Recorded>> =>
    get(asking(`${executionPath(id)}/events`, { after, limit: LOG_PAGE_SIZE }));
  let next: Promise<Page<Recorded>> | undefined = read("0");
  while (next !== undefined) {
    const page: Page<Recorded> = await next;
    next = page.next_cursor ? read(page.next_cursor) : undefined;
    // Whoever stops reading hears nothing of what went wrong with a page that they do not want.
    next?.catch(() => undefined);
    yield page.items;
  }
}

export function executionPath(id: string): string {
  return `/v1/executions/${encodePart(id)}`;
}

// --- inputs -----------------------------------------------------------------------------------

export function listInputs(executionId?: string): Promise<Page<Input>> {
  return get(asking("/v1/inputs", { limit: PAGE_SIZE, execution_id: executionId }));
}

export function getInput(id: string): Promise<Input> {
  return get(`/v1/inputs/${encodePart(id)}`);
}

/** What an input asks: a `Question`, an `Approval`, … A token that may only decide reads no blobs. */
export async function loadContent(input: Input): Promise<unknown> {
  const path = `/v1/inputs/${encodePart(input.input_id)}`;
  const whole = input.content.kind === "blob" ? await get<Input>(path) : input;
  return loadPayload(whole.content as Payload);
}

export async function resolveInput(id: string, answer: Answer): Promise<Input> {
  return (await session.call("POST", `/v1/inputs/${encodePart(id)}`, answer)) as Input;
}

/** What a payload holds, wherever it is kept. */
export async function loadPayload(payload: Payload): Promise<unknown> {
  if (payload.kind !== "blob") return payload.value;
  return session.call("GET", `/v1/blobs/${encodePart(payload.sha256)}`);
}

// --- files ------------------------------------------------------------------------------------

export function listArtifacts(id: string): Promise<Schemas["ArtifactList"]> {
  return get(`${executionPath(id)}/artifacts`);
}

export function artifactPath(id: string, path: string): string {
  return `${executionPath(id)}/artifacts/${encodePath(path)}`;
}

export function listFiles(sessionId: string, path: string): Promise<Schemas["FileListing"]> {
  return get(asking(`/v1/sessions/${encodePart(sessionId)}/files`, { path }));
}

export function filePath(sessionId: string, path: string): string {
  return `/v1/sessions/${encodePart(sessionId)}/files/${encodePath(path)}`;
}

export function blobPath(sha256: string): string {
  return `/v1/blobs/${encodePart(sha256)}`;
}

/** Keep a file at the server, where an execution can be given it. */
export async function storeFile(file: File): Promise<Schemas["AttachedFile"]> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
  const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  await session.send("PUT", blobPath(sha256), file);
  return { name: file.name, sha256 };
}

/** Let the browser keep a file: it is neither shown nor run. */
export async function download(path: string, name: string): Promise<void> {
  const address = URL.createObjectURL(await session.read(path));
  const link = document.createElement("a");
  link.href = address;
  link.download = inert(name);
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), KEPT_MS);
}

function encodePath(path: string): string {
  return path.split("/").map(encodePart).join("/");
}

// --- sessions and agents ----------------------------------------------------------------------

export function listSessions(cursor?: string): Promise<Page<Session>> {
  return get(asking("/v1/sessions", { limit: PAGE_SIZE, cursor }));
}

export function getSession(id: string): Promise<Session> {
  return get(`/v1/sessions/${encodePart(id)}`);
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
  return `/v1/agents/${encodePart(name)}`;
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

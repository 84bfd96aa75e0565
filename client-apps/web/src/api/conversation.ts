// An execution's events as what people read: who said what, which tools ran, what became of it.
// Items are never changed, but replaced, so that only what has changed is drawn again.

import { byWhom } from "../parts/text";
import { loadPayload, type Payload, type Recorded, type Schemas } from "./client";
import type { StreamEvent } from "./stream";

/** Without what an older page does not know: that has any text as its type. */
type KnownOf<Event> = Event extends { type?: infer Type } ? (string extends Type ? never : Event) : never;
type Known = KnownOf<Recorded["event"]>;
type Live = Schemas["ModelDelta"] | Schemas["ModelPartial"] | Schemas["ModelRetry"] | Schemas["ToolOutput"];

export interface Said {
  kind: "said";
  key: string;
  text: string;
  time: string;
  attachments: readonly Schemas["Attachment"][];
}
export interface Answered {
  kind: "answered";
  key: string;
  text: string;
  thinking: string;
  isLive: boolean;
  /** As people count steps; undefined while it is live, and of agents below. */
  step: number | undefined;
  /** Of an answer that is kept elsewhere. */
  digest: string | undefined;
  model: string | undefined;
  usage: Schemas["Usage"] | undefined;
  seconds: number | undefined;
}
export interface Called {
  kind: "called";
  key: string;
  tool: string;
  arguments: Payload;
  outcome: Schemas["ToolOutcome"] | undefined;
  step: number | undefined;
  result: Payload | undefined;
  /** Of a command that runs. */
  output: string;
  seconds: number | undefined;
}
export interface Noted {
  kind: "noted";
  key: string;
  text: string;
  tone: "quiet" | "bad" | "good";
}
export type Item = Said | Answered | Called | Noted;

const MOST_OUTPUT_CHARACTERS = 50_000;
export const FINAL: ReadonlySet<string> = new Set(["execution.completed", "execution.failed", "execution.cancelled"]);

export class Conversation {
  #items: Item[] = [];
  #places = new Map<string, number>();
  #steps = 0;

  constructor(private readonly onChange: () => void) {}

  /** All of it, in order. */
  list(): Item[] {
    return [...this.#items];
  }

  take(event: StreamEvent): void {
    if (event.id === undefined) this.#takeLive(event.data as Live);
    else this.#takeRecorded(event.data as Recorded);
  }

  #takeRecorded(recorded: Recorded): void {
    const event = recorded.event as Known;
    const key = `event-${recorded.sequence}`;
    switch (event.type) {
      case "execution.started":
        this.#steps = event.fork?.steps_before ?? 0;
        this.#say(key, event.input as Payload, recorded.recorded_at, event.attachments);
        if (event.fork) this.#note(`${key}-fork`, forkWords(event.fork), "quiet");
        break;
      case "message.received":
        this.#say(key, event.message as Payload, recorded.recorded_at);
        break;
      case "model.responded":
        this.#answer(event);
        break;
      case "model.failed":
        this.#note(key, `The model failed: ${event.message}`, "bad");
        break;
      case "tool.started":
        this.#put({
          kind: "called",
          key: callKey(event),
          tool: event.tool,
          arguments: event.arguments as Payload,
          outcome: undefined,
          step: undefined,
          result: undefined,
          output: "",
          seconds: undefined,
        });
        break;
      case "tool.finished":
        this.#finish(event);
        break;
      case "input.requested":
        this.#note(key, `Asked: ${event.title}`, "quiet");
        break;
      case "input.resolved":
        this.#note(key, `${capital(event.outcome)}${byWhom(event.resolved_by)}`, "quiet");
        break;
      case "input.reminded":
        this.#note(key, `People were reminded${event.escalated_to ? `, and ${event.escalated_to} may decide, too` : ""}`, "quiet");
        break;
      case "grant.revoked":
        this.#note(key, `What was granted is asked about again${byWhom(event.revoked_by)}`, "quiet");
        break;
      case "execution.paused": {
        const why = event.reason ? `: ${event.reason}` : "";
        this.#note(key, `Paused${byWhom(event.paused_by)}${why}`, "quiet");
        break;
      }
      case "execution.resumed":
        this.#note(key, `Resumed${byWhom(event.resumed_by)}`, "quiet");
        break;
      case "workspace.warned":
        this.#note(key, `It changed what other programs run later: ${(event.files ?? []).join(", ")}`, "bad");
        break;
      case "leg.started":
        if (event.attempt > 1) this.#note(key, `Goes on with attempt ${event.attempt}`, "quiet");
        break;
      case "leg.lost":
        this.#note(key, `Its runner was lost${event.how ? `: ${event.how}` : ""}`, "bad");
        break;
      case "execution.retried":
        this.#note(key, "Somebody let it go on", "quiet");
        break;
      case "execution.completed":
        this.#note(key, "Completed", "good");
        break;
      case "execution.failed":
        this.#note(key, `Failed: ${event.message}${event.hint ? ` (${event.hint})` : ""}`, "bad");
        break;
      case "execution.cancelled":
        this.#note(key, `Cancelled${event.reason ? `: ${event.reason}` : ""}`, "bad");
        break;
      default:
    }
    if (event.type !== undefined && FINAL.has(event.type)) this.#endLive();
  }

  #takeLive(event: Live): void {
    if (event.type === "tool.output") {
      const found = this.#items.findLast((item) => item.kind === "called" && item.key.endsWith(`/${event.call_id}`));
      if (found?.kind === "called" && found.outcome === undefined) {
        this.#put({ ...found, output: (found.output + event.text).slice(-MOST_OUTPUT_CHARACTERS) });
      }
      return;
    }
    const place = answerKey(event);
    const before = this.#find(place);
    if (before?.kind === "answered" && !before.isLive) return;
    const live: Answered =
      before?.kind === "answered" ? { ...before } : { ...emptyAnswer(place), isLive: true };
    if (event.type === "model.partial") live.text = event.text;
    else if (event.type === "model.retry") return this.#note(`retry-${event.turn}`, `Asks the model again: ${event.reason}`, "quiet");
    else if (event.kind === "thinking") live.thinking += event.text;
    else live.text += event.text;
    this.#put(live);
  }

  #answer(event: Schemas["ModelResponded"]): void {
    const key = answerKey(event);
    const step = this.#count(event);
    const put = (value: unknown): void => {
      const parts = ((value as Schemas["ModelAnswer"] | undefined)?.parts ?? []) as { kind?: string; text?: string | null }[];
      const of = (kind: string): string =>
        parts.filter((part) => part.kind === kind).map((part) => part.text ?? "").join("\n\n");
      this.#put({
        kind: "answered",
        key,
        text: of("text"),
        thinking: of("thinking"),
        isLive: false,
        step,
        digest: event.response.kind === "blob" ? event.response.sha256 : undefined,
        model: event.model,
        usage: event.usage,
        seconds: event.duration_seconds,
      });
    };
    this.#withValue(event.response as Payload, put);
  }

  #finish(event: Schemas["ToolFinished"]): void {
    const key = callKey(event);
    const before = this.#find(key);
    const started: Called =
      before?.kind === "called"
        ? before
        : {
            kind: "called",
            key,
            tool: event.tool,
            arguments: { kind: "inline", value: null },
            outcome: undefined,
            step: undefined,
            result: undefined,
            output: "",
            seconds: undefined,
          };
    this.#put({
      ...started,
      outcome: event.outcome,
      step: this.#count(event),
      result: event.result as Payload,
      output: "",
      seconds: event.duration_seconds,
    });
  }

  #say(key: string, payload: Payload, time: string, attachments: readonly Schemas["Attachment"][] = []): void {
    this.#withValue(payload, (value) => {
      this.#put({ kind: "said", key, text: textOf(value), time, attachments });
    });
  }

  /** Keep the place of what is still on its way, and fill it in when it comes. */
  #withValue(payload: Payload, put: (value: unknown) => void): void {
    if (payload.kind !== "blob") return put(payload.value);
    put(undefined);
    loadPayload(payload).then(put, () => undefined);
  }

  #note(key: string, text: string, tone: Noted["tone"]): void {
    this.#put({ kind: "noted", key, text, tone });
  }

  /** The number of the step that this event ends, as `stigmer_contract.steps` has it. */
  #count(event: { agent_path?: string }): number | undefined {
    if (event.agent_path) return undefined;
    this.#steps += 1;
    return this.#steps;
  }

  /** What nobody will finish any more. */
  #endLive(): void {
    for (const item of this.#items) if (item.kind === "answered" && item.isLive) this.#put({ ...item, isLive: false });
  }

  #find(key: string): Item | undefined {
    const place = this.#places.get(key);
    return place === undefined ? undefined : this.#items[place];
  }

  #put(item: Item): void {
    const place = this.#places.get(item.key);
    if (place === undefined) {
      this.#places.set(item.key, this.#items.length);
      this.#items.push(item);
    } else {
      this.#items[place] = item;
    }
    this.onChange();
  }
}

function emptyAnswer(key: string): Answered {
  const unknown = { step: undefined, digest: undefined, model: undefined, usage: undefined, seconds: undefined };
  return { kind: "answered", key, text: "", thinking: "", isLive: false, ...unknown };
}

/** Agents below count turns of their own. */
function answerKey(event: { turn: number; agent_path?: string }): string {
  return `turn-${event.turn}${event.agent_path ? `@${event.agent_path}` : ""}`;
}

function callKey(event: { turn: number; call_id: string; agent_path?: string }): string {
  return `call-${event.turn}${event.agent_path ? `@${event.agent_path}` : ""}/${event.call_id}`;
}

function forkWords(fork: Schemas["ForkOrigin"]): string {
  const files = fork.no_files_because ? `; it begins with no files: ${fork.no_files_because}` : "";
  return `Forked behind step ${fork.step} of ${fork.execution_id}${files}`;
}

function textOf(value: unknown): string {
  if (value === undefined) return "…";
  if (typeof value === "string") return value;
  const text = (value as { text?: unknown } | null)?.text;
  return typeof text === "string" ? text : JSON.stringify(value, null, 2);
}

function capital(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}

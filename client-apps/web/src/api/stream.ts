// Executions' events, live and without loss, over one connection for all that all tabs of this browser look at: a
// browser has few connections for one server. One tab holds it, and tells the others; when it goes, another does.
// By `fetch`, since `EventSource` sends no header, and a call without the page's secret is answered by nothing.

import { LEFT, session } from "./session.svelte";

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 15_000;
/** The server says something every 3 s. */
const LONGEST_SILENCE_MS = 40_000;
/** What changes within so short a time is asked for together. */
const GATHER_MS = 20;
const REPEAT_MS = 25_000;
/** Timers of tabs that nobody sees run once a minute. */
const FORGOTTEN_MS = 150_000;
const MOST_EXECUTIONS = 30;
const NAME = "stigmer-stream";
const AN_ID = /^[!-9;-~]{1,64}$/;

export type StreamState = "connecting" | "live" | "away" | "refused" | "ended";

export interface StreamEvent {
  /** Of a recorded event. */
  id: number | undefined;
  type: string;
  data: unknown;
}

interface Follower {
  executionId: string;
  /** The newest recorded event that it has. */
  last: number;
  onEvent: (event: StreamEvent) => void;
  onState: (state: StreamState) => void;
}

type Positions = Record<string, number>;
type Message =
  | { kind: "wants"; tab: string; positions: Positions }
  | { kind: "who" }
  | { kind: "state"; state: StreamState }
  | { kind: "told"; type: string; executionId: string | undefined; sequence: number | undefined; data: unknown };

class Hub {
  readonly #tab = `${Date.now()}-${Math.random()}`;
  readonly #followers = new Set<Follower>();
  readonly #listeners = new Set<() => void>();
  readonly #others = new Map<string, { positions: Positions; heardAt: number }>();
  readonly #channel = "BroadcastChannel" in globalThis ? new BroadcastChannel(NAME) : undefined;
  #isRunning = false;
  #leads = false;
  #state: StreamState = "connecting";
  #restart: AbortController | undefined;
  #streamed: Positions = {};
  #gathering = 0;

  constructor() {
    this.#channel?.addEventListener("message", (event: MessageEvent<Message>) => this.#hear(event.data));
    addEventListener("pagehide", () => this.#post({ kind: "wants", tab: this.#tab, positions: {} }));
    setInterval(() => this.#sayWants(), REPEAT_MS);
  }

  /** Follow an execution behind an event of it until it ends or the signal says stop. */
  follow(
    executionId: string,
    after: number,
    signal: AbortSignal,
    onEvent: Follower["onEvent"],
    onState: Follower["onState"],
  ): void {
    if (!AN_ID.test(executionId)) return onState("refused");
    const follower: Follower = { executionId, last: after, onEvent, onState };
    this.#followers.add(follower);
    signal.addEventListener("abort", () => this.#followers.delete(follower));
    onState("connecting");
    this.#run();
    this.#wantsChanged();
  }

  /** Be told when something becomes of executions, at most once a second; gives what ends it. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    this.#run();
    return () => this.#listeners.delete(listener);
  }

  #run(): void {
    if (this.#isRunning || session.state !== "signed-in" || session.who?.scope === "approve") return;
    this.#isRunning = true;
    // Without locks (an address that browsers hold for insecure), each tab has a connection of its own.
    const led = navigator.locks ? navigator.locks.request(NAME, () => this.#lead()) : this.#lead();
    void Promise.resolve(led).finally(() => (this.#isRunning = false));
    this.#sayWants();
  }

  async #lead(): Promise<void> {
    const left = new AbortController();
    const leave = (): void => left.abort();
    addEventListener(LEFT, leave);
    this.#leads = true;
    this.#post({ kind: "who" });
    let delay = FIRST_DELAY_MS;
    while (!left.signal.aborted && session.state === "signed-in") {
      const restart = (this.#restart = new AbortController());
      const silence = new AbortController();
      const signal = AbortSignal.any([left.signal, restart.signal, silence.signal]);
      this.#streamed = this.#wanted();
      try {
        const answer = await session.fetch(addressOf(this.#streamed), {
          headers: { Accept: "text/event-stream" },
          signal,
        });
        if (answer.status >= 400 && answer.status < 500 && answer.status !== 429) {
          this.#setState("refused");
          break;
        }
        if (answer.ok && answer.body !== null) {
          this.#setState("live");
          for await (const event of readEvents(answer.body, silence)) {
            delay = FIRST_DELAY_MS;
            this.#pass(event);
          }
        }
      } catch {
        if (left.signal.aborted) break;
        if (restart.signal.aborted) continue;
      }
      this.#setState("away");
      await pause(delay * (0.5 + Math.random() / 2), AbortSignal.any([left.signal, restart.signal]));
      delay = Math.min(delay * 2, LONGEST_DELAY_MS);
    }
    this.#leads = false;
    removeEventListener(LEFT, leave);
  }

  /** What all tabs together look at, from where on. */
  #wanted(): Positions {
    const wanted: Positions = {};
    const want = (id: string, last: number): void => {
      wanted[id] = Math.min(wanted[id] ?? last, last);
    };
    for (const each of this.#followers) want(each.executionId, each.last);
    for (const [tab, { positions, heardAt }] of this.#others) {
      if (Date.now() - heardAt > FORGOTTEN_MS) this.#others.delete(tab);
      else for (const [id, last] of Object.entries(positions)) want(id, last);
    }
    return Object.fromEntries(Object.entries(wanted).slice(-MOST_EXECUTIONS));
  }

  #wantsChanged(): void {
    if (this.#gathering !== 0) return;
    this.#gathering = window.setTimeout(() => {
      this.#gathering = 0;
      if (!this.#leads) return this.#sayWants();
      const isServed = Object.entries(this.#wanted()).every(([id, last]) => (this.#streamed[id] ?? Infinity) <= last);
      if (!isServed) this.#restart?.abort();
    }, GATHER_MS);
  }

  #sayWants(): void {
    const positions: Positions = {};
    for (const each of this.#followers) {
      positions[each.executionId] = Math.min(positions[each.executionId] ?? each.last, each.last);
    }
    if (!this.#leads && this.#isRunning) this.#post({ kind: "wants", tab: this.#tab, positions });
  }

  #pass(event: RawEvent): void {
    const data = event.data as { execution_id?: string; event?: unknown };
    const sequence = event.id === undefined ? undefined : Number(event.id.split(":").at(-1));
    const told = {
      kind: "told",
      type: event.type,
      executionId: data.execution_id,
      sequence,
      data: data.event,
    } as const;
    if (told.executionId !== undefined && sequence !== undefined) {
      this.#streamed[told.executionId] = sequence;
      for (const { positions } of this.#others.values()) {
        if (positions[told.executionId] === sequence - 1) positions[told.executionId] = sequence;
      }
    }
    this.#post(told);
    this.#tell(told);
  }

  #tell({ type, executionId, sequence, data }: Message & { kind: "told" }): void {
    if (type === "executions.changed") {
      for (const listener of this.#listeners) listener();
      return;
    }
    for (const follower of [...this.#followers]) {
      if (follower.executionId !== executionId) continue;
      if (type === "log.ended" || type === "log.missing") {
        this.#followers.delete(follower);
        follower.onState(type === "log.ended" ? "ended" : "refused");
      } else if (sequence === undefined || sequence === follower.last + 1) {
        follower.last = sequence ?? follower.last;
        follower.onEvent({ id: sequence, type, data });
      }
    }
  }

  #hear(message: Message): void {
    if (message.kind === "told") this.#tell(message);
    else if (message.kind === "state") this.#show(message.state);
    else if (message.kind === "who") this.#sayWants();
    else {
      this.#others.set(message.tab, { positions: message.positions, heardAt: Date.now() });
      if (!this.#leads) return;
      this.#post({ kind: "state", state: this.#state });
      this.#wantsChanged();
    }
  }

  #setState(state: StreamState): void {
    this.#show(state);
    this.#post({ kind: "state", state });
  }

  #show(state: StreamState): void {
    this.#state = state;
    for (const follower of this.#followers) follower.onState(state);
  }

  #post(message: Message): void {
    this.#channel?.postMessage(message);
  }
}

export const hub = new Hub();

function addressOf(positions: Positions): string {
  const query = new URLSearchParams();
  for (const [id, last] of Object.entries(positions)) query.append("execution", `${id}:${last}`);
  return query.size === 0 ? "/v1/events" : `/v1/events?${query}`;
}

interface RawEvent {
  id: string | undefined;
  type: string;
  data: unknown;
}

/** Server-sent events (WHATWG HTML, section 9.2.6), as far as this server uses them. */
async function* readEvents(body: ReadableStream<Uint8Array>, silence: AbortController): AsyncGenerator<RawEvent> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let rest = "";
  let id: string | undefined;
  let type = "message";
  let data: string[] = [];
  for (;;) {
    const timer = setTimeout(() => silence.abort(), LONGEST_SILENCE_MS);
    const { done, value } = await reader.read().finally(() => clearTimeout(timer));
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const text = line.endsWith("\r") ? line.slice(0, -1) : line;
      if (text === "") {
        if (data.length > 0) yield { id, type, data: JSON.parse(data.join("\n")) as unknown };
        [id, type, data] = [undefined, "message", []];
      } else if (!text.startsWith(":")) {
        const colon = text.indexOf(":");
        const field = colon < 0 ? text : text.slice(0, colon);
        const content = colon < 0 ? "" : text.slice(colon + 1).replace(/^ /, "");
        if (field === "data") data.push(content);
        else if (field === "event") type = content;
        else if (field === "id") id = content;
      }
    }
  }
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

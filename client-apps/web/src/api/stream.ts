// An execution's events, live and without loss: after a break the stream goes on behind the last event's id.
// By `fetch`, since `EventSource` sends no header, and a call without the page's secret is answered by nothing.

import { executionPath } from "./client";
import { session } from "./session.svelte";

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 15_000;
/** The server says something every 15 s. */
const LONGEST_SILENCE_MS = 40_000;

export type StreamState = "connecting" | "live" | "away" | "refused" | "ended";

export interface StreamEvent {
  /** Of a recorded event. */
  id: number | undefined;
  type: string;
  data: unknown;
}

/** Follow until the execution ends or the signal says stop. */
export async function follow(
  executionId: string,
  signal: AbortSignal,
  onEvent: (event: StreamEvent) => void,
  onState: (state: StreamState) => void,
): Promise<void> {
  let lastId = 0;
  let delay = FIRST_DELAY_MS;
  while (!signal.aborted) {
    onState("connecting");
    const silence = new AbortController();
    try {
      const headers: Record<string, string> = { Accept: "text/event-stream" };
      if (lastId > 0) headers["Last-Event-ID"] = String(lastId);
      const both = AbortSignal.any([signal, silence.signal]);
      const answer = await session.fetch(`${executionPath(executionId)}/events`, { headers, signal: both });
      if (answer.status === 204) return onState("ended");
      if (answer.status >= 400 && answer.status < 500 && answer.status !== 429) return onState("refused");
      if (answer.ok && answer.body !== null) {
        onState("live");
        for await (const event of readEvents(answer.body, silence)) {
          delay = FIRST_DELAY_MS;
          if (event.id !== undefined) lastId = event.id;
          onEvent(event);
        }
        // At the end of the log the server ends the stream, and then has nothing more to say.
        delay = FIRST_DELAY_MS;
      }
    } catch {
      if (signal.aborted) return;
    }
    onState("away");
    await pause(delay * (0.5 + Math.random() / 2), signal);
    delay = Math.min(delay * 2, LONGEST_DELAY_MS);
  }
}

/** Server-sent events (WHATWG HTML, section 9.2.6), as far as this server uses them. */
async function* readEvents(
  body: ReadableStream<Uint8Array>,
  silence: AbortController,
): AsyncGenerator<StreamEvent> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let rest = "";
  let id: number | undefined;
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
        else if (field === "id" && /^\d+$/.test(content)) id = Number(content);
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

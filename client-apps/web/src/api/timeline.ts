// An execution's log as spans of time: who worked when, what it waited for, where a runner died.

import type { Recorded, Schemas } from "./client";

export type SpanKind = "leg" | "model" | "tool" | "wait";

export interface Span {
  key: string;
  kind: SpanKind;
  label: string;
  /** Milliseconds since 1970. */
  from: number;
  /** Undefined while it goes on. */
  to: number | undefined;
  isBad: boolean;
}

export interface Turn {
  turn: number;
  usage: Schemas["Usage"];
  model: string;
}

type Event = { type?: string } & Record<string, unknown>;

export class Timeline {
  readonly spans: Span[] = [];
  readonly turns: Turn[] = [];
  /** Where legs were lost, in milliseconds since 1970. */
  readonly deaths: number[] = [];
  begin: number | undefined;
  end: number | undefined;
  isOver = false;
  #open = new Map<string, Span>();

  take(recorded: Recorded): void {
    const event = recorded.event as Event;
    const now = Date.parse(recorded.recorded_at);
    this.begin ??= now;
    this.end = now;
    switch (event.type) {
      case "execution.started":
        this.#begin("wait", "wait", "waits for a runner", now);
        break;
      case "leg.started":
        this.#finish("wait", now);
        this.#finish("leg", now, true);
        this.#begin("leg", "leg", `leg ${String(event.attempt)}`, now);
        break;
      case "leg.lost":
        if (this.#finish("leg", now, true)) this.deaths.push(now);
        this.#begin("wait", "wait", "waits for another runner", now);
        break;
      case "leg.ended":
        this.#finish("leg", now);
        if (event.reason === "waiting" || event.reason === "drained") {
          const reasons = (event.waiting_for ?? []) as { kind?: string }[];
          const what = reasons.map((each) => each.kind ?? "something").join(", ");
          this.#begin("wait", "wait", event.reason === "drained" ? "waits for another runner" : `waits for ${what}`, now);
        }
        break;
      case "model.responded": {
        const seconds = Number(event.duration_seconds ?? 0);
        const model = String(event.model ?? "");
        this.#add({
          key: `model-${recorded.sequence}`,
          kind: "model",
          label: `turn ${String(event.turn)}`,
          from: now - seconds * 1000,
          to: now,
          isBad: false,
        });
        this.turns.push({ turn: Number(event.turn), usage: event.usage as Schemas["Usage"], model });
        break;
      }
      case "model.failed":
        this.#add({ key: `failed-${recorded.sequence}`, kind: "model", label: "the model failed", from: now, to: now, isBad: true });
        break;
      case "tool.started":
        this.#begin(callKey(event), "tool", String(event.tool), now);
        break;
      case "tool.finished": {
        const isBad = event.outcome !== "succeeded";
        if (!this.#finish(callKey(event), now, isBad)) {
          const seconds = Number(event.duration_seconds ?? 0);
          this.#add({
            key: `tool-${recorded.sequence}`,
            kind: "tool",
            label: String(event.tool),
            from: now - seconds * 1000,
            to: now,
            isBad,
          });
        }
        break;
      }
      case "execution.completed":
      case "execution.failed":
      case "execution.cancelled":
        this.isOver = true;
        for (const key of [...this.#open.keys()]) this.#finish(key, now);
        break;
      case "execution.retried":
        this.isOver = false;
        this.#begin("wait", "wait", "waits for a runner", now);
        break;
      default:
    }
  }

  #begin(key: string, kind: SpanKind, label: string, from: number): void {
    if (this.#open.has(key)) return;
    const span: Span = { key: `${key}-${this.spans.length}`, kind, label, from, to: undefined, isBad: false };
    this.#open.set(key, span);
    this.spans.push(span);
  }

  #finish(key: string, to: number, isBad = false): boolean {
    const span = this.#open.get(key);
    if (span === undefined) return false;
    span.to = to;
    span.isBad = isBad;
    this.#open.delete(key);
    return true;
  }

  #add(span: Span): void {
    this.spans.push(span);
  }
}

function callKey(event: Event): string {
  return `call-${String(event.turn)}/${String(event.call_id)}/${String(event.agent_path ?? "")}`;
}

/**
 * Places of times between 0 and 1. Time in which nothing worked is drawn shorter than it was, where it was long:
 * a night of waiting must not hide what happened before and after.
 */
export function makeScale(timeline: Timeline, now: number): (time: number) => number {
  const begin = timeline.begin ?? now;
  const end = Math.max(timeline.isOver ? (timeline.end ?? now) : now, begin + 1);
  const idle = timeline.spans
    .filter((span) => span.kind === "wait")
    .map((span) => [Math.max(span.from, begin), Math.min(span.to ?? end, end)] as const)
    .filter(([from, to]) => to > from)
    .sort((one, other) => one[0] - other[0]);
  const waited = idle.reduce((sum, [from, to]) => sum + to - from, 0);
  const longest = Math.max((end - begin - waited) * 0.12, 1);
  const points: [number, number][] = [[begin, 0]];
  let drawn = 0;
  let at = begin;
  for (const [from, to] of idle) {
    if (from < at) continue;
    drawn += from - at;
    points.push([from, drawn]);
    drawn += Math.min(to - from, longest);
    points.push([to, drawn]);
    at = to;
  }
  drawn += end - at;
  points.push([end, Math.max(drawn, 1)]);
  const whole = points.at(-1)?.[1] ?? 1;
  return (time) => {
    let low = 0;
    let high = points.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if ((points[middle]?.[0] ?? 0) <= time) low = middle;
      else high = middle;
    }
    const [t0, d0] = points[low] ?? [begin, 0];
    const [t1, d1] = points[high] ?? [end, 1];
    const share = t1 > t0 ? Math.min(Math.max((time - t0) / (t1 - t0), 0), 1) : 0;
    return (d0 + share * (d1 - d0)) / whole;
  };
}

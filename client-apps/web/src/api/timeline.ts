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
  /** Each by when they began. */
  readonly lanes: Readonly<Record<SpanKind, Span[]>> = { leg: [], model: [], tool: [], wait: [] };
  /** Turns of the model and calls of tools, by when they began. */
  readonly steps: Span[] = [];
  readonly turns: Turn[] = [];
  /** Where legs were lost, in milliseconds since 1970. */
  readonly deaths: number[] = [];
  begin: number | undefined;
  end: number | undefined;
  isOver = false;
  #open = new Map<string, Span>();
  #count = 0;

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
    const span: Span = { key: `${key}-${this.#count}`, kind, label, from, to: undefined, isBad: false };
    this.#open.set(key, span);
    this.#add(span);
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
    this.#count += 1;
    insert(this.lanes[span.kind], span);
    if (span.kind === "model" || span.kind === "tool") insert(this.steps, span);
  }
}

/** Where it belongs by its beginning: at the end, or close to it. */
function insert(spans: Span[], span: Span): void {
  let place = spans.length;
  while (place > 0 && (spans[place - 1]?.from ?? 0) > span.from) place -= 1;
  spans.splice(place, 0, span);
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
  const idle = timeline.lanes.wait
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

/** One rectangle of a lane: a span, or several that nobody could tell apart. */
export interface Mark {
  key: string;
  x: number;
  width: number;
  isBad: boolean;
  /** The first of them. */
  span: Span;
  count: number;
}

/** So many widths of a lane are told apart: a log of 10,000 events is not 10,000 rectangles. */
const CELLS = 400;

/** The spans of a lane as few rectangles: of those that begin at one place and are of one tone, one. */
export function marksOf(
  spans: readonly Span[],
  place: (span: Span) => { x: number; width: number },
  width: number,
): Mark[] {
  const marks: Mark[] = [];
  const newest = new Map<boolean, { cell: number; mark: Mark }>();
  for (const span of spans) {
    const at = place(span);
    const cell = Math.floor((at.x / width) * CELLS);
    const before = newest.get(span.isBad);
    if (before?.cell === cell) {
      before.mark.width = Math.max(before.mark.width, at.x + at.width - before.mark.x);
      before.mark.count += 1;
    } else {
      const mark: Mark = { key: span.key, ...at, isBad: span.isBad, span, count: 1 };
      marks.push(mark);
      newest.set(span.isBad, { cell, mark });
    }
  }
  return marks;
}

/** Several turns that stand for one bar. */
export interface TurnGroup {
  label: string;
  cost: number;
  cached: number;
  fresh: number;
  output: number;
}

const MOST_BARS = 200;

/** The turns, of many as many together as it takes to have few bars. */
export function groupTurns(turns: readonly Turn[]): TurnGroup[] {
  const size = Math.max(1, Math.ceil(turns.length / MOST_BARS));
  const groups: TurnGroup[] = [];
  for (let first = 0; first < turns.length; first += size) {
    const group: TurnGroup = { label: "", cost: 0, cached: 0, fresh: 0, output: 0 };
    const within = turns.slice(first, first + size);
    for (const { usage } of within) {
      const cached = usage.cache_read_tokens ?? 0;
      group.cost += Number(usage.cost_usd ?? 0);
      group.cached += cached;
      group.fresh += Math.max((usage.input_tokens ?? 0) - cached, 0);
      group.output += usage.output_tokens ?? 0;
    }
    const last = within.at(-1)?.turn;
    group.label = within.length === 1 ? `turn ${last}` : `turns ${within[0]?.turn} to ${last}`;
    groups.push(group);
  }
  return groups;
}

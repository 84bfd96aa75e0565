// One execution as views show it: followed while somebody looks, and drawn again at most once a frame. What has
// happened before comes in pages, which a browser takes apart at one go; what happens then, as it happens.

import { type Execution, getExecution, type Input, listInputs, readLog, type Recorded, UNENDED } from "./client";
import { Conversation, FINAL, type Item } from "./conversation";
import { describe } from "./session.svelte";
import { hub, type StreamState } from "./stream";
import { Timeline } from "./timeline";

const REFRESH_DELAY_MS = 300;
const FRAME_MS = 16;
/** While a long log is read, drawing it again and again would take most of the time. */
const LONG_FRAME_MS = 150;
const LONG_LOG = 500;

export class Followed {
  execution = $state.raw<Execution | undefined>();
  items = $state.raw<Item[]>([]);
  events = $state.raw<Recorded[]>([]);
  inputs = $state.raw<Input[]>([]);
  stream = $state<StreamState>("connecting");
  problem = $state<string | undefined>();
  /** Counts up with what the timeline was given. */
  version = $state(0);
  readonly timeline = new Timeline();
  readonly #log: Recorded[] = [];

  constructor(readonly id: string) {}

  get isOver(): boolean {
    return ["completed", "failed", "cancelled"].includes(this.execution?.phase ?? "");
  }

  /** Follow; gives what ends it. For `$effect`. */
  start(): () => void {
    const stop = new AbortController();
    let frame = 0;
    let timer = 0;
    const draw = (): void => {
      // Timers, since nothing is drawn in a tab that is not seen.
      if (frame !== 0) return;
      frame = window.setTimeout(
        () => {
          frame = 0;
          this.items = conversation.list();
          this.events = [...this.#log];
          this.version += 1;
        },
        this.#log.length > LONG_LOG ? LONG_FRAME_MS : FRAME_MS,
      );
    };
    const conversation = new Conversation(draw);
    const refresh = (): void => void this.refresh(stop.signal);
    const take = (recorded: Recorded): void => {
      conversation.take({ id: recorded.sequence, type: "", data: recorded });
      this.#log.push(recorded);
      this.timeline.take(recorded);
      draw();
    };
    refresh();
    void this.#readBefore(stop.signal, take).then(() => {
      if (stop.signal.aborted) return;
      const last = this.#log.at(-1);
      if (FINAL.has(String((last?.event as { type?: string } | undefined)?.type))) {
        this.stream = "ended";
        return;
      }
      hub.follow(
        this.id,
        last?.sequence ?? 0,
        stop.signal,
        (event) => {
          if (event.id === undefined) return conversation.take(event);
          take(event.data as Recorded);
          clearTimeout(timer);
          timer = window.setTimeout(refresh, REFRESH_DELAY_MS);
        },
        (state) => (this.stream = state),
      );
    });
    return () => {
      stop.abort();
      clearTimeout(frame);
      clearTimeout(timer);
    };
  }

  /** What cannot be read now, the stream brings. */
  async #readBefore(stop: AbortSignal, take: (recorded: Recorded) => void): Promise<void> {
    try {
      for await (const page of readLog(this.id)) {
        if (stop.aborted) return;
        page.forEach(take);
      }
    } catch {
      // The stream tells how it stands: it goes on asking.
    }
  }

  async refresh(stop?: AbortSignal): Promise<void> {
    try {
      const found = await getExecution(this.id);
      const asked = UNENDED.includes(found.phase) ? (await listInputs(this.id)).items : [];
      if (stop?.aborted) return;
      this.execution = found;
      this.inputs = asked;
      this.problem = undefined;
    } catch (error) {
      if (!stop?.aborted) this.problem = describe(error);
    }
  }
}

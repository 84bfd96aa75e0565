// What a view shows of the server, asked for again and again while somebody looks.

import { describe } from "./session.svelte";
import { hub } from "./stream";

export class Loaded<Value> {
  value = $state.raw<Value | undefined>();
  problem = $state<string | undefined>();

  constructor(private readonly load: () => Promise<Value>) {}

  /** Ask now; an answer that comes after `stop` changes nothing. */
  async refresh(stop?: AbortSignal): Promise<void> {
    try {
      const value = await this.load();
      if (stop?.aborted) return;
      this.value = value;
      this.problem = undefined;
    } catch (error) {
      if (!stop?.aborted) this.problem = describe(error);
    }
  }

  /** Ask now, every so often, and when something becomes of executions; gives what ends it. For `$effect`. */
  repeat(milliseconds: number): () => void {
    const stop = new AbortController();
    const end = whileSeen(milliseconds, () => void this.refresh(stop.signal));
    return () => {
      stop.abort();
      end();
    };
  }
}

/**
 * Do something now, every so often, and when something becomes of executions, but for a tab that nobody sees; it
 * does it when it is seen again. Gives what ends it.
 */
export function whileSeen(milliseconds: number, action: () => void): () => void {
  let isDue = true;
  const act = (): void => {
    isDue = document.hidden;
    if (!isDue) action();
  };
  const show = (): void => {
    if (isDue) act();
  };
  action();
  isDue = false;
  const timer = setInterval(act, milliseconds);
  const end = hub.onChange(act);
  document.addEventListener("visibilitychange", show);
  return () => {
    clearInterval(timer);
    end();
    document.removeEventListener("visibilitychange", show);
  };
}

/** Midnights of the viewer's own days: the last `days` of them, today's included, and tomorrow's. */
export function midnights(days: number): Date[] {
  const now = new Date();
  return Array.from(
    { length: days + 1 },
    (_, place) => new Date(now.getFullYear(), now.getMonth(), now.getDate() - days + 1 + place),
  );
}

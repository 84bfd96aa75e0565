// Asks the server until it answers, ever more seldom.

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 15_000;

/** Like `setTimeout`, as a promise. */
export type Pause = (milliseconds: number) => Promise<void>;

const pauseFor: Pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/**
 * What `ask` gives. Where it fails and `mayPass` says that this can pass, it is asked again; any other failure is the
 * caller's.
 */
export async function untilAnswered<Answer>(
  ask: () => Promise<Answer>,
  mayPass: (error: unknown) => boolean,
  pause: Pause = pauseFor,
): Promise<Answer> {
  for (let delay = FIRST_DELAY_MS; ; delay = Math.min(delay * 2, LONGEST_DELAY_MS)) {
    try {
      return await ask();
    } catch (error) {
      if (!mayPass(error)) throw error;
    }
    await pause(delay * (0.5 + Math.random() / 2));
  }
}

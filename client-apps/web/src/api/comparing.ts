// Where two executions part: by their steps, of which a fork's parent's are its own, too.

import { type Payload, readLog, type Schemas } from "./client";
import { type Answered, type Called, Conversation, type Item } from "./conversation";

export type Step = Answered | Called;

/** A fork of a fork of a fork … */
const DEEPEST = 50;

export function stepsOf(items: readonly Item[]): Step[] {
  return items
    .filter((item): item is Step => (item.kind === "answered" || item.kind === "called") && item.step !== undefined)
    .sort((one, other) => (one.step ?? 0) - (other.step ?? 0));
}

/** The steps that came before a fork's own: those of its parents. */
export async function stepsBefore(fork: Schemas["ForkOrigin"] | null | undefined, depth = 0): Promise<Step[]> {
  if (!fork?.steps_before || depth > DEEPEST) return [];
  const conversation = new Conversation(() => undefined);
  let before: Schemas["ForkOrigin"] | null | undefined;
  for await (const page of readLog(fork.execution_id)) {
    for (const recorded of page) {
      if (recorded.sequence === 1) before = (recorded.event as Schemas["ExecutionStarted"]).fork;
      conversation.take({ id: recorded.sequence, type: "", data: recorded });
    }
  }
  const earlier = await stepsBefore(before, depth + 1);
  return [...earlier, ...stepsOf(conversation.list())].slice(0, fork.steps_before);
}

/** How many steps from the first on are the same in both. */
export function sharedSteps(one: readonly Step[], other: readonly Step[]): number {
  const most = Math.min(one.length, other.length);
  let count = 0;
  while (count < most && meaning(one[count]) === meaning(other[count])) count += 1;
  return count;
}

/** What a step said or did, and what became of it. */
function meaning(step: Step | undefined): string {
  if (step?.kind === "called") {
    return JSON.stringify([step.tool, kept(step.arguments), step.outcome, kept(step.result)]);
  }
  return JSON.stringify([step?.digest ?? step?.text]);
}

function kept(payload: Payload | undefined): unknown {
  return payload?.kind === "blob" ? payload.sha256 : payload?.value;
}

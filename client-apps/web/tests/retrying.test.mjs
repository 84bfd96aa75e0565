import assert from "node:assert/strict";
import { test } from "node:test";
import { untilAnswered } from "../src/api/retrying.ts";

/** Pauses that take no time, and are noted. */
function pauses() {
  const taken = [];
  return { taken, pause: async (milliseconds) => void taken.push(milliseconds) };
}

test("a server that is away is asked until it answers, ever more seldom", async () => {
  const { taken, pause } = pauses();
  let asked = 0;
  const ask = async () => {
    if (++asked <= 10) throw new TypeError("Failed to fetch");
    return "it is you";
  };
  assert.equal(await untilAnswered(ask, () => true, pause), "it is you");
  assert.equal(asked, 11);
  const longest = [500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000, 15_000, 15_000];
  assert.ok(taken.length === longest.length && taken.every((each, place) => each >= longest[place] / 2 && each <= longest[place]), `${taken}`);
});

test("what does not pass is told at once", async () => {
  const { taken, pause } = pauses();
  const refused = new Error("forbidden");
  const told = untilAnswered(() => Promise.reject(refused), (error) => error !== refused, pause);
  await assert.rejects(told, (error) => error === refused);
  assert.deepEqual(taken, []);
});

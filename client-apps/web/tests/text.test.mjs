// Run by Node.js itself, which takes the types away.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  editableJson,
  encodePart,
  formatBytes,
  formatCostOrTokens,
  formatModel,
  formatOffset,
  formatSeconds,
  formatTokens,
  inert,
  readableFields,
  ruleWords,
} from "../src/parts/text.ts";

/** Numbers of every size, the same each time (an LCG of Numerical Recipes), and those beside the borders. */
function* numbers(borders) {
  for (const border of borders) for (const off of [-1, -0.51, -0.5, -0.05, -0.04, 0, 0.04, 0.5, 1]) yield Math.max(border + off, 0);
  let state = 1;
  for (let count = 0; count < 20_000; count++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield 10 ** ((state / 2 ** 32) * 9 - 2);
  }
}

test("a time is told in units of which each is less than one of the next", () => {
  for (const seconds of numbers([10, 60, 120, 3600, 7200, 86_400])) {
    const told = formatSeconds(seconds);
    const found = /^(?:(\d\.\d|\d\d) s|(\d+) min (\d+) s|(\d+) h (\d+) min)$/.exec(told);
    assert.ok(found, `${seconds}: ${told}`);
    const [, alone, minutes, rest, hours, minutesOfHour] = found.map(Number);
    if (!Number.isNaN(alone)) assert.ok(alone < 60, told);
    if (!Number.isNaN(minutes)) assert.ok(minutes >= 1 && minutes < 60 && rest < 60, told);
    if (!Number.isNaN(hours)) assert.ok(hours >= 1 && minutesOfHour < 60, told);
    const meant = (alone || 0) + 60 * (minutes || 0) + (rest || 0) + 3600 * (hours || 0) + 60 * (minutesOfHour || 0);
    assert.ok(Math.abs(meant - seconds) <= (hours ? 60 : minutes || alone >= 10 ? 0.5 : 0.0501), `${seconds}: ${told}`);
  }
  assert.equal(formatSeconds(119.7), "2 min 0 s");
  assert.equal(formatSeconds(3599.6), "1 h 0 min");
});

test("no count of tokens is a thousand of a unit", () => {
  for (const count of numbers([10_000, 99_950, 999_500, 1_000_000])) {
    const told = formatTokens(Math.round(count));
    if (told.endsWith(" k")) assert.ok(Number(told.slice(0, -2)) < 1000, told);
  }
});

test("no size is 1024 of a unit", () => {
  for (const size of numbers([1024, 1024 ** 2, 1024 ** 3])) {
    const told = formatBytes(Math.round(size));
    if (!told.endsWith("GB")) assert.ok(Number(told.split(" ")[0]) < 1024, told);
  }
});

test("what nobody sees is named, and what people write stays", () => {
  assert.equal(inert("a\u202eb\u{e0041}c\u3164\u2028\u0000"), "a⟨202E⟩b⟨E0041⟩c⟨3164⟩⟨2028⟩⟨0000⟩");
  assert.equal(inert("\ud800x" + "a" + "\u0300".repeat(500)), "\ufffdxa" + "\u0300".repeat(8) + "⟨…⟩");
  for (const text of ["👩‍💻 ❤️", "नमस्ते", "مرحبا", "שלום", "日本語", "Việt", "tab\tand\nline"]) assert.equal(inert(text), text);
});

test("edited JSON is the same value", () => {
  const value = { "a\u202e": ["\u{e0041}", "\ufeffx\n"], b: 1 };
  const text = editableJson(value);
  assert.deepEqual(JSON.parse(text), value);
  assert.doesNotMatch(text, /[\u202e\ufeff]|\u{e0041}/u);
});

test("any text can stand in an address", () => assert.equal(encodePart("a/\ud800?"), "a%2F%EF%BF%BD%3F"));

test("a call's arguments are read as lines, and no text passes for another field", () => {
  assert.equal(readableFields({ command: "python3 - <<EOF\nprint(1)\r\npath: x\nEOF", timeout: 5, "a\nb": null }), [
    "command:",
    "  python3 - <<EOF",
    "  print(1)",
    "  path: x",
    "  EOF",
    "timeout: 5",
    '"a\\nb": null',
  ].join("\n"));
  assert.equal(readableFields({ text: "a\u202eb" }), "text: a⟨202E⟩b");
  assert.equal(readableFields({}), "{}");
  assert.equal(readableFields("words"), "words");
});

test("a model that is known by a digest is told by its beginning", () => {
  assert.equal(formatModel(`replay:sha256:${"19e2dec0".repeat(8)}`), "replay:19e2dec0…");
  assert.equal(formatModel("openai:gpt-5"), "openai:gpt-5");
  assert.equal(formatModel(null), "");
});

test("a rule is told in words where it has no more to say", () => {
  assert.equal(ruleWords('{"tool":"read_file","when":"/a.txt","policy":"allow"}'), "read_file /a.txt");
  assert.equal(ruleWords('{"tool":"skills/load_skill","policy":"allow"}'), "skills/load_skill");
  for (const rule of ['{"tool":"shell","destructive":true}', "shell: git push*", "null", "3"]) assert.equal(ruleWords(rule), rule);
});

test("a clock that differs is ahead or behind", () => {
  assert.deepEqual([-0.006, 0.0001, 75].map(formatOffset), ["6 ms behind", "the same", "1 min 15 s ahead"]);
});

test("what has no price is told by its tokens", () => {
  assert.equal(formatCostOrTokens({ cost_usd: "0", input_tokens: 5 }), "$0.00");
  assert.equal(formatCostOrTokens({ cost_usd: null, input_tokens: 12_000, output_tokens: 400 }), "12.4 k");
  assert.equal(formatCostOrTokens({}), "–");
});

// What agents, models and tools wrote, made safe to look at. It reaches the page as text only, never as HTML.

/** Longer texts are shown in part, until somebody asks for the whole. */
export const SHOWN_CHARACTERS = 20_000;

// CSI and OSC sequences of ECMA-48, with what they carry.
const ESCAPES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-Z\\^_])/g;
// Controls; what turns the direction of what follows; what cannot be seen: fillers, tags (letters that nobody sees),
// the selectors that can carry bytes. Those that join letters and emoji (U+200C, U+200D, U+FE00 to U+FE0F) stay.
const HIDDEN_CLASS =
  "\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b\\u200e\\u200f" +
  "\\u2028-\\u202e\\u2060-\\u206f\\u2800\\u3164\\ufeff\\uffa0\\ufff9-\\ufffb\\u{e0000}-\\u{e0fff}";
/** What an editor has to name where the text must stay as it is. */
export const HIDDEN = new RegExp(`[${HIDDEN_CLASS}]`, "gu");
// Marks without end on one letter would be drawn over the lines around it.
const PILED_MARKS = /(\p{Mn}{8})\p{Mn}+/gu;

/** Without sequences that steer terminals; what cannot be seen, or turns the text around, is named. */
export function inert(text: string | undefined): string {
  return (text ?? "")
    .toWellFormed()
    .replace(ESCAPES, "")
    .replace(/\r\n?/g, "\n")
    .replace(HIDDEN, (character) => `⟨${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}⟩`)
    .replace(PILED_MARKS, "$1⟨…⟩");
}

/** A part of an address. */
export function encodePart(text: string): string {
  // Half a character has no form in an address, and would be an error here.
  return encodeURIComponent(text.toWellFormed());
}

/** JSON to be edited: the same value, with what cannot be seen spelled out. */
export function editableJson(value: unknown): string {
  const escape = (character: string): string =>
    character
      .split("")
      .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
      .join("");
  return (JSON.stringify(value, null, 2) ?? "").replace(HIDDEN, escape);
}

/** A value as people read JSON; a text as it is. */
export function readable(value: unknown): string {
  return inert(typeof value === "string" ? value : (JSON.stringify(value, null, 2) ?? ""));
}

/** What a call is given, as people read it: a text of several lines as lines below its name, each of them indented, so
 * that none can pass for another field. */
export function readableFields(value: unknown): string {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return readable(value);
  const fields = Object.entries(value).map(([name, each]) => {
    const shown = /^[\w.-]+$/.test(name) ? name : JSON.stringify(name);
    if (typeof each !== "string") return `${shown}: ${JSON.stringify(each, null, 2)}`;
    const lines = each.split(/\r\n?|\n/);
    return lines.length === 1 ? `${shown}: ${each}` : `${shown}:\n${lines.map((line) => `  ${line}`).join("\n")}`;
  });
  return fields.length === 0 ? "{}" : inert(fields.join("\n"));
}

/** A model by name; of what is known by a digest alone its beginning is enough. */
export function formatModel(model: string | null | undefined): string {
  return inert(model ?? "").replace(/(?:sha256:)?([0-9a-f]{8})[0-9a-f]{24,}/g, "$1…");
}

/** A rule of approval in words: which calls it means. */
export function ruleWords(rule: string): string {
  try {
    const { tool, when, policy: _, ...rest } = JSON.parse(rule) as Record<string, unknown>;
    if (typeof tool === "string" && Object.keys(rest).length === 0) {
      return inert(typeof when === "string" ? `${tool} ${when}` : tool);
    }
  } catch {
    // Not a rule that this page knows: as it is.
  }
  return inert(rule);
}

/** An address that a link may lead to; undefined for all but the web's. */
export function safeAddress(address: string): string | undefined {
  if (!/^https?:\/\//i.test(address)) return undefined;
  try {
    const url = new URL(address);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : undefined;
  } catch {
    return undefined;
  }
}

const DATE_AND_TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const COUNT = new Intl.NumberFormat();

export function formatTime(time: string): string {
  return DATE_AND_TIME.format(new Date(time));
}

export function formatCount(count: number): string {
  return COUNT.format(count);
}

export function formatCost(cost: string | number | null | undefined): string {
  if (cost === null || cost === undefined) return "–";
  const amount = Number(cost);
  return `$${amount.toFixed(amount > 0 && amount < 0.1 ? 4 : 2)}`;
}

/** What it cost; where no price is known, the tokens that it took. */
export function formatCostOrTokens(usage: { cost_usd?: string | null; input_tokens?: number; output_tokens?: number }): string {
  if (usage.cost_usd !== null && usage.cost_usd !== undefined) return formatCost(usage.cost_usd);
  const tokens = (usage.input_tokens ?? 0) + (usage.output_tokens ?? 0);
  return tokens === 0 ? "–" : formatTokens(tokens);
}

export function formatSeconds(seconds: number): string {
  // Rounded once, before it is taken apart: else there would be minutes of 60 seconds.
  const tenths = Math.round(seconds * 10);
  if (tenths < 100) return `${(tenths / 10).toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** How far a clock is from another's. */
export function formatOffset(seconds: number): string {
  const amount = Math.abs(seconds);
  if (amount < 0.0005) return "the same";
  const size = amount < 1 ? `${Math.round(amount * 1000)} ms` : formatSeconds(amount);
  return `${size} ${seconds > 0 ? "ahead" : "behind"}`;
}

export function formatPhase(phase: string): string {
  return phase.replace("_", " ");
}

const TIME_OF_DAY = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

/** As briefly as lists need it: of today the time, of other days the day too. */
export function formatShortTime(time: string): string {
  const date = new Date(time);
  if (date.toDateString() === new Date().toDateString()) return TIME_OF_DAY.format(date);
  return `${DAY.format(date)}, ${TIME_OF_DAY.format(date)}`;
}

export function formatDay(time: string | Date): string {
  return DAY.format(new Date(time));
}

export function formatClock(time: string | number): string {
  return CLOCK.format(new Date(time));
}

/** Of a large count what matters. */
export function formatTokens(count: number): string {
  if (count < 10_000) return formatCount(count);
  if (count < 999_500) return `${(count / 1000).toFixed(count < 99_950 ? 1 : 0)} k`;
  return `${(count / 1_000_000).toFixed(2)} M`;
}

/** In units of 1024, as file managers have them. */
export function formatBytes(size: number): string {
  if (size < 1024) return `${size} B`;
  // What would be rounded up to 1024 of one unit is 1 of the next.
  const power = size / 1024 < 1023.5 ? 1 : size / 1024 ** 2 < 1023.5 ? 2 : 3;
  const amount = size / 1024 ** power;
  return `${amount.toFixed(amount < 9.95 ? 1 : 0)} ${["B", "KB", "MB", "GB"][power]}`;
}

/** The last characters of an id, by which every command takes it too. */
export function shortId(id: string): string {
  return id.slice(-6);
}

/** As in `stigmer_contract.deciders`: nobody needs to be told of the administrator's own token, nor of its
 * name in logs of earlier versions. */
export function byWhom(name: string | null | undefined): string {
  return name && name !== "administrator" && name !== "STIGMER_TOKEN" ? ` by ${name}` : "";
}

// Output of commands with the colours that they gave it. Only colours and weights are read (ECMA-48, 8.3.117);
// whatever else steers a terminal is left out, and nothing becomes markup.

import { inert } from "./text";

export interface Segment {
  text: string;
  classes: string;
}

const SELECT_GRAPHIC = /\u001b\[([0-9;]*)m/g;
const COLOURS = ["grey", "red", "green", "yellow", "blue", "magenta", "cyan", ""];
const MOST_SEGMENTS = 5000;

export function segments(text: string): Segment[] {
  const found: Segment[] = [];
  let place = 0;
  let style = new Map<string, string>();
  const push = (part: string): void => {
    const shown = inert(part);
    if (shown !== "") found.push({ text: shown, classes: [...style.values()].join(" ") });
  };
  for (const match of text.matchAll(SELECT_GRAPHIC)) {
    if (found.length >= MOST_SEGMENTS) break;
    push(text.slice(place, match.index));
    place = match.index + match[0].length;
    style = select(style, (match[1] ?? "").split(";").map(Number));
  }
  push(text.slice(place));
  return found;
}

function select(before: Map<string, string>, codes: number[]): Map<string, string> {
  const style = new Map(before);
  for (let place = 0; place < codes.length; place++) {
    const code = codes[place] ?? 0;
    if (code === 0) style.clear();
    else if (code === 1) style.set("weight", "ansi-bold");
    else if (code === 2) style.set("weight", "ansi-dim");
    else if (code === 3) style.set("slant", "ansi-italic");
    else if (code === 4) style.set("line", "ansi-underline");
    else if (code === 22) style.delete("weight");
    else if (code === 23) style.delete("slant");
    else if (code === 24) style.delete("line");
    else if (code === 39) style.delete("colour");
    else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) {
      const colour = COLOURS[code % 10];
      if (colour) style.set("colour", `ansi-${colour}`);
      else style.delete("colour");
    } else if (code === 38 || code === 48) {
      // 256 colours and true ones are passed over: they were chosen for another ground.
      place += codes[place + 1] === 5 ? 2 : 4;
    }
  }
  return style;
}

/** The lines of a unified diff with what each is; undefined where the text is none. */
export function diffLines(text: string): Segment[] | undefined {
  if (!/^(?:diff --git .*\n|index .*\n|---? .*\n\+\+\+ |@@ -\d)/.test(text)) return undefined;
  return inert(text)
    .replace(/\n$/, "")
    .split("\n")
    .map((line) => ({ text: line, classes: diffClass(line) }));
}

function diffClass(line: string): string {
  if (/^(?:\+\+\+|---|@@|diff |index )/.test(line)) return "line place";
  if (line.startsWith("+")) return "line added";
  if (line.startsWith("-")) return "line removed";
  return "line";
}

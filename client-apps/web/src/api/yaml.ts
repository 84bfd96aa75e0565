// A value of JSON as YAML that people like to read. The server reads it back, and is the judge of it.

const PLAIN = /^[A-Za-z_/][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*$/;
const WORDS = new Set(["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"]);
const INDENT = "  ";
const MOST_INLINE = 72;

/** The text; what is null, or an object or list with nothing in it, is left out of objects. */
export function toYaml(value: unknown): string {
  return block(prune(value), "").replace(/^\n/, "") + "\n";
}

function prune(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(prune);
  if (value === null || typeof value !== "object") return value;
  const kept = Object.entries(value).filter(
    ([, each]) => each !== null && each !== undefined && !(typeof each === "object" && Object.keys(each).length === 0),
  );
  return Object.fromEntries(kept.map(([name, each]) => [name, prune(each)]));
}

function block(value: unknown, indent: string): string {
  if (Array.isArray(value)) {
    if (value.every((each) => typeof each !== "object" || each === null)) {
      const inline = `[${value.map((each) => scalar(each)).join(", ")}]`;
      if (inline.length <= MOST_INLINE) return inline;
    }
    return value.map((each) => `\n${indent}- ${block(each, indent + INDENT).replace(/^\n\s*/, "")}`).join("");
  }
  if (value !== null && typeof value === "object") {
    const fields = Object.entries(value);
    if (fields.length === 0) return "{}";
    return fields
      .map(([name, each]) => {
        const inside = block(each, indent + INDENT);
        return `\n${indent}${key(name)}:${inside.startsWith("\n") ? inside : ` ${inside}`}`;
      })
      .join("");
  }
  if (typeof value === "string" && isLiteral(value)) {
    const chomp = value.endsWith("\n") ? (value.endsWith("\n\n") ? "+" : "") : "-";
    const lines = value.replace(/\n$/, "").split("\n");
    return `|${chomp}\n${lines.map((line) => (line === "" ? "" : indent + line)).join("\n")}`;
  }
  return scalar(value);
}

/** Whether a text can stand as lines below its key, to the letter. */
function isLiteral(text: string): boolean {
  // eslint-disable-next-line no-control-regex
  return text.includes("\n") && !/^[\s]|[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\ufeff]|[ \t]\n/.test(text);
}

function key(name: string): string {
  return PLAIN.test(name) && !WORDS.has(name.toLowerCase()) ? name : JSON.stringify(name);
}

function scalar(value: unknown): string {
  if (typeof value !== "string") return JSON.stringify(value) ?? "null";
  return PLAIN.test(value) && !WORDS.has(value.toLowerCase()) ? value : JSON.stringify(value);
}

// Which fields can stand where the cursor is: by the manifest's own schema, from the server's description.

import type { Completion, CompletionContext, CompletionResult } from "@codemirror/autocomplete";
import { session } from "../api/session.svelte";

interface Schema {
  $ref?: string;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  items?: Schema;
  anyOf?: Schema[];
  oneOf?: Schema[];
  allOf?: Schema[];
  enum?: unknown[];
  const?: unknown;
  description?: string;
}

let schemas: Promise<Record<string, Schema>> | undefined;

async function loadSchemas(): Promise<Record<string, Schema>> {
  const described = (await session.call("GET", "/openapi.json")) as { components: { schemas: Record<string, Schema> } };
  return described.components.schemas;
}

/** The keys above a line, outermost first, by their indentation; a list's items count as one step, `-`. */
function pathAbove(lines: readonly string[], indent: number): string[] {
  const path: string[] = [];
  let below = indent;
  for (const line of [...lines].reverse()) {
    const found = /^(\s*)((?:- )*)([\w-]+):/.exec(line);
    const item = /^(\s*)- /.exec(line);
    if (item !== null && (item[1]?.length ?? 0) < below) {
      const key = /^\s*- ([\w-]+):/.exec(line);
      const column = (item[1]?.length ?? 0) + 2;
      if (key !== null && column < below) path.unshift(key[1] ?? "");
      path.unshift("-");
      below = item[1]?.length ?? 0;
    } else if (found !== null && found[2] === "" && (found[1]?.length ?? 0) < below) {
      path.unshift(found[3] ?? "");
      below = found[1]?.length ?? 0;
    }
    if (below === 0) break;
  }
  return path;
}

function variants(schema: Schema | undefined, all: Record<string, Schema>, depth = 0): Schema[] {
  if (schema === undefined || depth > 12) return [];
  if (schema.$ref !== undefined) return variants(all[schema.$ref.split("/").at(-1) ?? ""], all, depth + 1);
  const inside = [...(schema.anyOf ?? []), ...(schema.oneOf ?? []), ...(schema.allOf ?? [])];
  return inside.length > 0 ? inside.flatMap((each) => variants(each, all, depth + 1)) : [schema];
}

function step(found: Schema[], name: string, all: Record<string, Schema>): Schema[] {
  return found.flatMap((schema) => {
    if (name === "-") return variants(schema.items, all);
    const other = typeof schema.additionalProperties === "object" ? schema.additionalProperties : undefined;
    return variants(schema.properties?.[name] ?? other, all);
  });
}

export async function completeField(context: CompletionContext): Promise<CompletionResult | null> {
  const line = context.state.doc.lineAt(context.pos);
  const before = line.text.slice(0, context.pos - line.from);
  const isKey = /^\s*(?:- )?[\w-]*$/.exec(before);
  const isValue = /^\s*(?:- )?([\w-]+):\s+([\w-]*)$/.exec(before);
  const word = /[\w-]*$/.exec(before)?.[0] ?? "";
  if ((isKey === null && isValue === null) || (word === "" && !context.explicit)) return null;
  schemas ??= loadSchemas();
  const all = await schemas.catch(() => {
    schemas = undefined;
    return {} as Record<string, Schema>;
  });
  const indent = /^\s*(?:- )?/.exec(before)?.[0].length ?? 0;
  const lines = context.state.doc.toString().slice(0, line.from).split("\n");
  if (/^\s*- /.test(before)) lines.push(before);
  let found = variants(all["AgentManifest-Input"], all);
  for (const name of pathAbove(lines, indent)) found = step(found, name, all);
  const options: Completion[] =
    isValue !== null
      ? step(found, isValue[1] ?? "", all)
          .flatMap((schema) => schema.enum ?? (schema.const === undefined ? [] : [schema.const]))
          .map((each) => ({ label: String(each), type: "enum" }))
      : found
          .flatMap((schema) => Object.entries(schema.properties ?? {}))
          .map(([name, schema]) => ({ label: name, apply: `${name}: `, type: "property", info: schema.description ?? "" }));
  const known = new Map(options.map((option) => [option.label, option]));
  return known.size === 0 ? null : { from: context.pos - word.length, options: [...known.values()] };
}

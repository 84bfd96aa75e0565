// Whether this page is signed in. The page keeps one half of its session for its own origin; the other is in a
// cookie that no script can read, and that other ports of this machine get to see. Neither opens anything alone.

import { inert } from "../parts/text";
import { untilAnswered } from "./retrying";
import type { components } from "./schema";

type Schemas = components["schemas"];

const KEPT_AS = "stigmer-console";
const HEADER = "Stigmer-Console";
/** An event of the window: nobody is signed in any more. */
export const LEFT = "stigmer-left";
const LINK_PREFIX = "#sign-in=";

export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    readonly hint: string | undefined,
  ) {
    super(detail);
  }
}

class Session {
  who = $state<Schemas["CallerResource"] | undefined>();
  state = $state<"starting" | "signed-out" | "signed-in">("starting");
  problem = $state<string | undefined>();
  /** Counts what makes an answer to an earlier question of who is signed in void. */
  #meeting = 0;

  /** Sign in by the link in the address, if there is one; else go on with what is kept. */
  async start(): Promise<void> {
    const secret = takeLinkSecret();
    if (secret !== undefined) await this.signInWithLink(secret);
    else if (localStorage.getItem(KEPT_AS) === null) this.state = "signed-out";
    else await this.#meet();
  }

  async signInWithLink(secret: string): Promise<void> {
    this.problem = undefined;
    try {
      const answer = await fetch("/v1/console/sessions", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ secret } satisfies Schemas["SignIn"]),
      });
      const opened = (await readAnswer(answer)) as Schemas["ConsoleSession"];
      localStorage.setItem(KEPT_AS, opened.secret);
    } catch (error) {
      // Whoever can make somebody follow a link must not sign them out with a bad one.
      if (localStorage.getItem(KEPT_AS) === null) {
        this.#leave(error instanceof Problem ? inert(error.message) : "The server does not answer.");
        return;
      }
    }
    await this.#meet();
  }

  /** A token makes a link, and that signs in: the token itself is kept nowhere. */
  async signInWithToken(token: string): Promise<void> {
    this.problem = undefined;
    let link: Schemas["ConsoleLink"];
    try {
      const headers = { Authorization: `Bearer ${token.trim()}` };
      const answer = await fetch("/v1/console/links", { method: "POST", headers, credentials: "omit" });
      link = (await readAnswer(answer)) as Schemas["ConsoleLink"];
    } catch (error) {
      const isWrong = error instanceof Problem && error.status === 401;
      this.#leave(isWrong ? "This is no token of this server, or it does not hold any more." : describe(error));
      return;
    }
    await this.signInWithLink(link.secret);
  }

  async signOut(): Promise<void> {
    try {
      await this.call("DELETE", "/v1/console/sessions/self");
    } catch {
      // What is forgotten here opens nothing any more, whether the server has heard of it or not.
    }
    this.#leave(undefined);
  }

  /** Call the server as whoever is signed in. */
  async fetch(path: string, options: RequestInit = {}): Promise<Response> {
    const headers = new Headers(options.headers);
    headers.set(HEADER, localStorage.getItem(KEPT_AS) ?? "");
    const answer = await fetch(path, { ...options, headers });
    if (answer.status === 401) this.#leave("You are signed out: the session or its token has ended.");
    return answer;
  }

  /** As `fetch`, for JSON. */
  async call(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<unknown> {
    const options: RequestInit = { method, headers };
    if (body !== undefined) {
      options.body = JSON.stringify(body);
      options.headers = { ...headers, "Content-Type": "application/json" };
    }
    return readAnswer(await this.fetch(path, options));
  }

  /** The bytes at a path. */
  async read(path: string): Promise<Blob> {
    const answer = await this.fetch(path);
    if (!answer.ok) await readAnswer(answer);
    return answer.blob();
  }

  /** Send bytes. */
  async send(method: string, path: string, body: Blob): Promise<unknown> {
    return readAnswer(await this.fetch(path, { method, body, headers: { "Content-Type": "application/octet-stream" } }));
  }

  /** Another tab has signed in or out, or a link was opened in this one. */
  listen(): void {
    addEventListener("storage", (event) => {
      if (event.key !== KEPT_AS) return;
      if (event.newValue === null) this.#leave(undefined);
      else void this.#meet();
    });
    addEventListener("hashchange", () => {
      const secret = takeLinkSecret();
      if (secret !== undefined) void this.signInWithLink(secret);
    });
  }

  /** Find out who is signed in. A server that is away, or about to start, says nothing about that: it is asked again. */
  async #meet(): Promise<void> {
    const meeting = ++this.#meeting;
    const isCurrent = (): boolean => meeting === this.#meeting;
    const mayPass = (error: unknown): boolean => {
      if (!isCurrent() || !isAway(error)) return false;
      if (this.state !== "signed-in") this.state = "starting";
      this.problem = describe(error);
      return true;
    };
    const ask = (): Promise<unknown> | undefined => (isCurrent() ? this.call("GET", "/v1/tokens/self") : undefined);
    try {
      const who = await untilAnswered(async () => ask(), mayPass);
      if (!isCurrent()) return;
      this.who = who as Schemas["CallerResource"];
      this.problem = undefined;
      this.state = "signed-in";
    } catch (error) {
      if (!isCurrent() || (error instanceof Problem && error.status === 401)) return;
      this.state = "signed-out";
      this.problem = describe(error);
    }
  }

  #leave(problem: string | undefined): void {
    this.#meeting++;
    localStorage.removeItem(KEPT_AS);
    this.who = undefined;
    this.state = "signed-out";
    this.problem = problem;
    dispatchEvent(new Event(LEFT));
  }
}

export const session = new Session();

export function describe(error: unknown): string {
  if (error instanceof Problem) return inert(error.hint === undefined ? error.message : `${error.message} (${error.hint})`);
  return "The server does not answer.";
}

/** Whether the server cannot be reached, or cannot answer now; it may later. */
function isAway(error: unknown): boolean {
  return !(error instanceof Problem) || error.status >= 500 || error.status === 429;
}

async function readAnswer(answer: Response): Promise<unknown> {
  if (answer.status === 204) return undefined;
  const body: unknown = await answer.json().catch(() => undefined);
  if (answer.ok) return body;
  const problem = (body ?? {}) as Partial<Schemas["Problem"]>;
  throw new Problem(
    answer.status,
    problem.code ?? "internal",
    problem.detail ?? `The server answered ${answer.status}.`,
    problem.hint ?? undefined,
  );
}

/** The secret leaves the address before anything else happens, and so the history and what copies it. */
function takeLinkSecret(): string | undefined {
  if (!location.hash.startsWith(LINK_PREFIX)) return undefined;
  const secret = location.hash.slice(LINK_PREFIX.length);
  history.replaceState(null, "", location.pathname + location.search);
  return secret;
}

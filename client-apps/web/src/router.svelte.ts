// Which view the address names. Each view has one that can be shared.

import { encodePart } from "./parts/text";

const BASE = "/console/";

class Router {
  path = $state(location.pathname);
  search = $state(location.search);

  /** The parts of the address behind the console's own. */
  get parts(): string[] {
    const inside = this.path.startsWith(BASE) ? this.path.slice(BASE.length) : "";
    return inside.split("/").filter((part) => part !== "").map(decodePart);
  }

  get query(): URLSearchParams {
    return new URLSearchParams(this.search);
  }

  listen(): void {
    addEventListener("popstate", () => this.#read());
    document.addEventListener("click", (event) => {
      const link = event.target instanceof Element ? event.target.closest("a") : null;
      const isPlain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
      if (link === null || !isPlain || event.defaultPrevented || link.target !== "") return;
      if (link.origin !== location.origin || !link.pathname.startsWith(BASE)) return;
      // A place within the view, such as where the content begins, is the browser's.
      if (link.hash !== "" && link.pathname === location.pathname) return;
      event.preventDefault();
      this.go(link.pathname + link.search);
    });
  }

  go(address: string): void {
    const isElsewhere = new URL(address, location.href).pathname !== location.pathname;
    history.pushState(null, "", address);
    this.#read();
    if (!isElsewhere) return;
    scrollTo(0, 0);
    // What had the focus is gone with its view: Tab goes on from where the new one begins.
    document.querySelector<HTMLElement>("#content")?.focus({ preventScroll: true });
  }

  /** Change what the view is asked to show, without a step in the history. */
  ask(query: Record<string, string>): void {
    const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "")).toString();
    history.replaceState(null, "", location.pathname + (search === "" ? "" : `?${search}`));
    this.#read();
  }

  #read(): void {
    this.path = location.pathname;
    this.search = location.search;
  }
}

export const router = new Router();

export function executionAddress(id: string): string {
  return `${BASE}executions/${encodePart(id)}`;
}

/** Where one goes back to a step of it. */
export function forkAddress(id: string, step: number): string {
  return `${executionAddress(id)}?show=fork&at=${step}`;
}

export function sessionAddress(id: string): string {
  return `${BASE}sessions/${encodePart(id)}`;
}

export function agentAddress(name: string, owner?: string): string {
  const query = owner === undefined ? "" : `?owner=${encodePart(owner)}`;
  return `${BASE}agents/${encodePart(name)}${query}`;
}

function decodePart(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

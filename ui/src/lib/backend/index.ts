/** The one place where it is decided what answers: the window or the fake. */

import type { Backend } from "./backend";

export async function connect(): Promise<Backend> {
  // Decided when the page is built: the window has no fake in it.
  if (import.meta.env.MODE === "fake") {
    return (await import("./fake")).fake(new URLSearchParams(location.search));
  }
  return (await import("./tauri")).backend;
}

export * from "./backend";

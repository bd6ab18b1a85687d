/** The window: the one file that knows Tauri. */

import { Channel, invoke } from "@tauri-apps/api/core";
import type { Backend, Screen } from "./backend";
import { Chunk, type Command, type Event, type Hello, type Opened, type Progress, type Project } from "./wire";

function call<T>(command: Command, parameters: Record<string, unknown> = {}): Promise<T> {
  return invoke<T>(command, parameters);
}

/** One kind byte, then bytes; small messages arrive as an array of numbers. */
function deliver(message: ArrayBuffer | number[], screen: Screen): void {
  const bytes = new Uint8Array(message);
  const rest = bytes.subarray(1);
  switch (bytes[0]) {
    case Chunk.Output:
      return screen.write(rest, true);
    case Chunk.Screen:
      return screen.write(rest, false);
    case Chunk.Ended:
      return screen.ended(Number(new TextDecoder().decode(rest)));
    default:
      return screen.lost();
  }
}

export const backend: Backend = {
  hello(onEvent) {
    return call<Hello>("hello", { events: new Channel<Event>(onEvent) });
  },
  projects: () => call<Project[]>("list_projects"),
  lookAgain: () => call("look_again"),
  showTitle: (project) => call("show_title", { project }),
  chooseFolder: () => call<string | null>("choose_folder"),
  forget: (project) => call("forget_project", { project }),
  open(request, onProgress, screen) {
    return call<Opened>("open_sandbox", {
      request,
      progress: new Channel<Progress>(onProgress),
      screen: new Channel<ArrayBuffer | number[]>((message) => deliver(message, screen)),
    });
  },
  cancelOpening: (project) => call("cancel_opening", { project }),
  stop: (project) => call("stop_session", { project }),
  allow: (request) => call("allow_host", { request }),
  write: (terminal, bytes) =>
    invoke("terminal_write" satisfies Command, bytes, { headers: { terminal: String(terminal) } }),
  resize: (terminal, columns, rows) => call("terminal_resize", { terminal, columns, rows }),
  credit: (terminal, bytes) => call("terminal_credit", { terminal, bytes }),
  close: (terminal) => call("terminal_close", { terminal }),
  copy: (text) => call("copy_text", { text }),
  openLink: (url) => call("open_link", { url }),
};

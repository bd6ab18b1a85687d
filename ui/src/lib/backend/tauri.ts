/** The window: the one file that knows Tauri. */

import { Channel, invoke } from "@tauri-apps/api/core";
import type { Backend, Screen } from "./backend";
import {
  type About,
  Chunk,
  type Command,
  type Ending,
  type Event,
  type FieldProblem,
  type Hello,
  type HostsDocument,
  type Layer,
  type LoginState,
  type NetworkView,
  type Opened,
  type Progress,
  type Project,
  type ProjectSettings,
  type Resources,
  type ReviewView,
  type SetupLine,
  type Tried,
  type Wall,
  type WindowSettings,
} from "./wire";

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
  endTerminal: (project, tab) => call("end_terminal", { project, tab }),
  allow: (request) => call("allow_host", { request }),
  networkView: (project) => call<NetworkView>("network_view", { project }),
  stillBlocked: (questions) => call<boolean[]>("still_blocked", { questions }),
  neverAsk: (project, target, quiet) => call("never_ask", { project, target, quiet }),
  setNetwork: (project, connected) => call("set_network", { project, connected }),
  openInternet: (project, seconds) => call("open_internet", { project, seconds }),
  hosts: (level) => call<HostsDocument>("hosts", { level }),
  changeHosts: (level, version, change) => call<HostsDocument>("change_hosts", { level, version, change }),
  checkHost: (level, fields) => call<FieldProblem | null>("check_host", { level, fields }),
  review: (project) => call<ReviewView>("review_view", { project }),
  reviewDiff: (project, change) => call<string[] | null>("review_diff", { project, change }),
  reviewKeep: (project, changes) => call("review_keep", { project, changes }),
  reviewPutBack: (project, changes) => call("review_put_back", { project, changes }),
  reviewUndo: (project) => call("review_undo", { project }),
  resources: (project) => call<Resources>("resources", { project }),
  projectSettings: (project) => call<ProjectSettings>("project_settings", { project }),
  saveProjectSettings: (project, settings) => call("save_project_settings", { project, settings }),
  layers: () => call<Layer[]>("layers"),
  removeLayer: (name) => call<Layer[]>("remove_layer", { name }),
  setup: () => call<SetupLine[]>("setup"),
  mend: (id, onProgress) => call<SetupLine[]>("mend", { id, progress: new Channel<Progress>(onProgress) }),
  renew: (id, onProgress) => call<SetupLine[]>("renew", { id, progress: new Channel<Progress>(onProgress) }),
  cancelMend: (id) => call("cancel_mend", { id }),
  settings: () => call<WindowSettings>("settings"),
  saveSettings: (settings) => call("save_settings", { settings }),
  about: () => call<About>("about"),
  walls: (project) => call<Wall[]>("walls", { project }),
  ending: (project) => call<Ending>("ending", { project }),
  copyDropped: (project) => call<string[]>("copy_dropped", { project }),
  pasteImage: (project) => call<string | null>("paste_image", { project }),
  login: () => call<LoginState>("login"),
  keepLogin: (token) => call("keep_login", { token }),
  forgetLogin: () => call("forget_login"),
  loginStaysHere: (project) => call("login_stays_here", { project }),
  linger: () => call<boolean | null>("linger"),
  setLinger: (on) => call("set_linger", { on }),
  verify: (project) => call<Tried[]>("verify", { project }),
  closeWindow: () => call("close_window"),
  quit: (stop) => call("quit", { stop }),
  write: (terminal, bytes) =>
    invoke("terminal_write" satisfies Command, bytes, { headers: { terminal: String(terminal) } }),
  resize: (terminal, columns, rows) => call("terminal_resize", { terminal, columns, rows }),
  credit: (terminal, bytes) => call("terminal_credit", { terminal, bytes }),
  close: (terminal) => call("terminal_close", { terminal }),
  copy: (text) => call("copy_text", { text }),
  openLink: (url) => call("open_link", { url }),
};

/** All that the page can ask of the computer. `tauri.ts` is the window, `fake/` the browser. */

import type {
  About,
  AllowHost,
  Blocked,
  Ending,
  Event,
  FieldProblem,
  Hello,
  HostFields,
  HostsChange,
  HostsDocument,
  HostsLevel,
  Layer,
  LoginState,
  NetworkView,
  Opened,
  OpenSandbox,
  Problem,
  Progress,
  Project,
  ProjectSettings,
  Resources,
  ReviewView,
  SetupId,
  SetupLine,
  Tried,
  Wall,
  WindowSettings,
} from "./wire";

export type * from "./wire";

export interface Backend {
  /** Says that the page is there; events come from now on. */
  hello(onEvent: (event: Event) => void): Promise<Hello>;
  projects(): Promise<Project[]>;
  /** Looks for sessions that began or ended elsewhere; an event follows. */
  lookAgain(): Promise<void>;
  /** The title of the window is the project's name. */
  showTitle(project: string | null): Promise<void>;
  /** The id of the folder that the person chose, or nothing. */
  chooseFolder(): Promise<string | null>;
  forget(project: string): Promise<void>;
  open(request: OpenSandbox, onProgress: (progress: Progress) => void, screen: Screen): Promise<Opened>;
  /** The running `open` is undone and fails with `RCC-E002`. */
  cancelOpening(project: string): Promise<void>;
  stop(project: string): Promise<void>;
  /** Hangs up the program of a tab, or forgets one that ended. */
  endTerminal(project: string, tab: number): Promise<void>;

  allow(request: AllowHost): Promise<void>;
  /** What was reached and blocked; `Project.blocked` is 0 after that. */
  networkView(project: string): Promise<NetworkView>;
  /** Which of these are blocked still; what was allowed elsewhere is not. */
  stillBlocked(questions: Blocked[]): Promise<boolean[]>;
  neverAsk(project: string, target: string, quiet: boolean): Promise<void>;
  setNetwork(project: string, connected: boolean): Promise<void>;
  /** Opens it to the whole internet for so many seconds; 0 ends that. */
  openInternet(project: string, seconds: number): Promise<void>;
  hosts(level: HostsLevel): Promise<HostsDocument>;
  /** Fails with `RCC-E506` when `version` is old; nothing was written then. */
  changeHosts(level: HostsLevel, version: string, change: HostsChange): Promise<HostsDocument>;
  /** Asked while the person types. */
  checkHost(level: HostsLevel, fields: HostFields): Promise<FieldProblem | null>;

  /** What changed of the files that this computer would run. */
  review(project: string): Promise<ReviewView>;
  /** Its lines, each after `-`, `+` or a space, or `…`; nothing where there is none to show. */
  reviewDiff(project: string, change: string): Promise<string[] | null>;
  /** Fails with `RCC-E105` when one changed again since it was shown; nothing is kept then. */
  reviewKeep(project: string, changes: string[]): Promise<void>;
  reviewPutBack(project: string, changes: string[]): Promise<void>;
  reviewUndo(project: string): Promise<void>;

  resources(project: string): Promise<Resources>;
  projectSettings(project: string): Promise<ProjectSettings>;
  saveProjectSettings(project: string, settings: ProjectSettings): Promise<void>;
  /** Layers of projects' own packages that are kept. */
  layers(): Promise<Layer[]>;
  /** Answers those that are left; a project that wants it again has it built again. */
  removeLayer(name: string): Promise<Layer[]>;
  /** What this computer needs before a sandbox can start. */
  setup(): Promise<SetupLine[]>;
  mend(id: SetupId, onProgress: (progress: Progress) => void): Promise<SetupLine[]>;
  /** Brings what is there up to date; a note says what came of it. */
  renew(id: SetupId, onProgress: (progress: Progress) => void): Promise<SetupLine[]>;
  cancelMend(id: SetupId): Promise<void>;
  settings(): Promise<WindowSettings>;
  saveSettings(settings: WindowSettings): Promise<void>;
  about(): Promise<About>;
  walls(project: string): Promise<Wall[]>;
  /** Tries the ways out of the sandbox; a few seconds. */
  verify(project: string): Promise<Tried[]>;
  /** Whether the sandbox ran out of memory, and what more it could have. */
  ending(project: string): Promise<Ending>;
  /** Copies what was dropped last into the project; answers the paths inside. */
  copyDropped(project: string): Promise<string[]>;
  /** The clipboard's picture goes into the sandbox; answers its path there, or nothing. */
  pasteImage(project: string): Promise<string | null>;
  login(): Promise<LoginState>;
  keepLogin(token: string): Promise<void>;
  forgetLogin(): Promise<void>;
  /** `Project.offerLogin` is false from now on. */
  loginStaysHere(project: string): Promise<void>;
  /** Whether sandboxes outlive a logout; `null` where nothing ends them. */
  linger(): Promise<boolean | null>;
  setLinger(on: boolean): Promise<void>;
  /** As its own button does: it hides, or asks to quit. */
  closeWindow(): Promise<void>;
  /** Ends the app, with or without the sessions. */
  quit(stop: boolean): Promise<void>;

  write(terminal: number, bytes: Uint8Array): Promise<void>;
  resize(terminal: number, columns: number, rows: number): Promise<void>;
  /** So many bytes of output were drawn; without it output stops. */
  credit(terminal: number, bytes: number): Promise<void>;
  close(terminal: number): Promise<void>;
  copy(text: string): Promise<void>;
  openLink(url: string): Promise<void>;
}

/** Where a terminal's output goes. */
export interface Screen {
  /** `credited` bytes are given back with `Backend.credit` once they are drawn. */
  write(bytes: Uint8Array, credited: boolean): void;
  ended(code: number): void;
  lost(): void;
}

/** What a failed call is rejected with. */
export function asProblem(error: unknown): Problem {
  if (typeof error === "object" && error !== null && "code" in error && "title" in error) {
    return error as Problem;
  }
  return {
    code: "RCC-E000",
    title: "Something went wrong in the window.",
    why: "It did not expect this.",
    hint: "Try again; if it happens twice, please report it with the details.",
    detail: error instanceof Error ? (error.stack ?? error.message) : String(error),
  };
}

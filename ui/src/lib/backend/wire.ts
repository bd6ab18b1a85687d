// Generated from src-tauri/src/wire.rs by `RCC_WRITE=1 cargo test -p rcc-desktop wire`.

export type Hello = { version: string,
/**
 * Driven by a test: the page then offers `window.__rccTerminalText()`.
 */
automation: boolean,
/**
 * Set when nothing can be opened at all.
 */
problem: Problem | null, };

export type Problem = {
/**
 * `RCC-E…`, stable.
 */
code: string,
/**
 * What could not be done.
 */
title: string,
/**
 * Why.
 */
why: string,
/**
 * What to do.
 */
hint: string,
/**
 * Folded at first.
 */
detail: string | null, };

export type Project = {
/**
 * 16 hexadecimal digits.
 */
id: string, name: string,
/**
 * The folder, `~` for the home.
 */
path: string,
/**
 * False when the folder is gone.
 */
exists: boolean,
/**
 * When it was last opened here, seconds since 1970.
 */
opened: number | null, session: Session | null, };

export type Session = { network: NetworkWord, image: string,
/**
 * Claude's state, when its terminal is there; a hint by the agent's side.
 */
activity: Activity | null, };

export type Activity = { state: StateWord,
/**
 * The question, tool or reason.
 */
detail: string | null,
/**
 * Turns that are over; `done` with 0 awaits the first prompt.
 */
turns: number,
/**
 * When the state began, seconds since 1970.
 */
since: number, };

export type NetworkWord = "connected" | "disconnected" | "offline" | "unknown";

export type StateWord = "starting" | "working" | "needsYou" | "done" | "background" | "trouble" | "ended";

export type OpenSandbox = {
/**
 * A project of the list.
 */
project: string,
/**
 * Never connect.
 */
offline: boolean, start: Start, columns: number, rows: number, };

export type Start = "show" | "new" | "resume";

export type Opened = {
/**
 * The window's own number of the terminal.
 */
terminal: number, session: Session, };

export type Progress = { "kind": "begun", step: StepWord, } | { "kind": "amount", step: StepWord, done: number, total: number | null, } | { "kind": "doing", step: StepWord, text: string, } | { "kind": "done", step: StepWord, ms: number, } | { "kind": "failed", step: StepWord, } | { "kind": "note", text: string, };

export type StepWord = "checkFolder" | "engine" | "image" | "claude" | "startSandbox" | "connectNetwork" | "startProgram";

export type Event = { "kind": "projects" } | { "kind": "activity", project: string, activity: Activity | null, } | { "kind": "blocked" } & Blocked | { "kind": "dragging", over: boolean, } | { "kind": "dropped", project: string, } | { "kind": "refused" } & Problem;

export type Blocked = { project: string,
/**
 * Name, or the address when there is no name; harmless to show.
 */
target: string,
/**
 * 0 when only the name was asked.
 */
port: number,
/**
 * `tcp`, `udp` or another word.
 */
protocol: string,
/**
 * `not-allowed`, `private`, `never`, `limit`, `disconnected`, or a word
 * that this release does not know.
 */
reason: string, };

export type AllowHost = { project: string,
/**
 * As [`Blocked::target`].
 */
target: string, port: number, protocol: string,
/**
 * It may resolve into private ranges.
 */
private: boolean, };

/** The first byte of a message on a terminal's channel. */
export const Chunk = {
  Output: 0,
  Screen: 1,
  Ended: 2,
  Lost: 3,
} as const;

/** The commands that the window answers. */
export type Command =
  | "hello"
  | "list_projects"
  | "look_again"
  | "show_title"
  | "choose_folder"
  | "forget_project"
  | "open_sandbox"
  | "cancel_opening"
  | "stop_session"
  | "allow_host"
  | "terminal_write"
  | "terminal_resize"
  | "terminal_credit"
  | "terminal_close"
  | "copy_text"
  | "open_link";

// Generated from src-tauri/src/wire.rs by `RCC_WRITE=1 cargo test -p rcc-desktop wire`.

export type Hello = { version: string,
/**
 * Driven by a test: the page then offers `window.__rccTerminalText()`.
 */
automation: boolean,
/**
 * Set when nothing can be opened at all.
 */
problem: Problem | null, settings: WindowSettings,
/**
 * Something of the first run is missing: show it.
 */
setup: boolean, };

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
opened: number | null, session: Session | null,
/**
 * Hosts blocked since its network page was looked at.
 */
blocked: number,
/**
 * A conversation is kept that could go on.
 */
resumable: boolean,
/**
 * Files that this computer would run, which changed and were not looked at.
 */
changed: number,
/**
 * The same of files that are part of a build.
 */
changedBuild: number,
/**
 * Its login could be one for all projects: ask once.
 */
offerLogin: boolean, };

export type Session = { network: NetworkWord,
/**
 * Until when it is open to the whole internet, seconds since 1970.
 */
openUntil: number | null, image: string,
/**
 * Of its Claude that most needs the person; a hint by the agent's side.
 */
activity: Activity | null, terminals: Array<TerminalTab>, };

export type TerminalTab = {
/**
 * The sandbox's own, from 1.
 */
number: number, kind: TabKind,
/**
 * While Claude Code runs in it.
 */
activity: Activity | null,
/**
 * Set once the program ended.
 */
exit: number | null, };

export type TabKind = "claude" | "shell" | "other";

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
offline: boolean, start: Start,
/**
 * Which one to show; none is Claude's.
 */
terminal: number | null, columns: number, rows: number, };

export type Start = "show" | "new" | "resume" | "shell" | "login";

export type Opened = {
/**
 * The window's own number of the terminal.
 */
terminal: number,
/**
 * The sandbox's own number of it.
 */
tab: number, session: Session, };

export type Progress = { "kind": "begun", step: StepWord, } | { "kind": "amount", step: StepWord, done: number, total: number | null, } | { "kind": "doing", step: StepWord, text: string, } | { "kind": "done", step: StepWord, ms: number, } | { "kind": "failed", step: StepWord, } | { "kind": "note", text: string, };

export type StepWord = "checkFolder" | "engine" | "image" | "claude" | "startSandbox" | "connectNetwork" | "startProgram";

export type Event = { "kind": "projects" } | { "kind": "activity", project: string, activity: Activity | null, terminals: Array<TerminalTab>, } | { "kind": "blocked" } & Blocked | { "kind": "network", project: string, } | { "kind": "review", project: string, } | { "kind": "hosts", level: string, } | { "kind": "show", project: string | null, page: PageWord, } | { "kind": "quit", running: number, } | { "kind": "hides" } | { "kind": "settings", settings: WindowSettings, } | { "kind": "contrast", high: boolean, } | { "kind": "dragging", over: boolean, files: boolean, } | { "kind": "dropped", project: string, } | { "kind": "files", files: Array<DroppedFile>, } | { "kind": "refused" } & Problem;

export type PageWord = "terminal" | "network" | "hosts" | "settings" | "setup" | "projects";

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
private: boolean, scope: AllowScope, };

export type AllowScope = "tenMinutes" | "session" | "project" | "allProjects";

export type NetworkView = { state: NetworkWord,
/**
 * Until when it is open to the whole internet, seconds since 1970.
 */
openUntil: number | null,
/**
 * The newest first.
 */
lines: Array<NetworkLine>,
/**
 * Lines that are left off.
 */
more: number, };

export type NetworkLine = { target: string, address: string | null,
/**
 * 0 when only the name was asked.
 */
port: number, protocol: string, outcome: Outcome,
/**
 * As [`Blocked::reason`].
 */
reason: string | null, count: number,
/**
 * Seconds since 1970.
 */
last: number,
/**
 * The person said: never ask again.
 */
quiet: boolean, };

export type Outcome = "reached" | "blocked";

export type ReviewView = { changes: Array<ReviewLine>,
/**
 * Sentences about what could not be compared.
 */
notes: Array<string>,
/**
 * Something was put back that can be undone.
 */
canUndo: boolean, };

export type ReviewLine = {
/**
 * Of this very change: another content has another.
 */
id: string, path: string, what: WhatWord,
/**
 * Without being asked to; else it is part of a build, or a link.
 */
runsByItself: boolean,
/**
 * A link out of the project, and no more.
 */
leadsOut: boolean,
/**
 * Who would run it, and when.
 */
why: string, canPutBack: boolean, };

export type WhatWord = "new" | "changed" | "removed";

export type HostsLevel = { "level": "computer" } | { "level": "allProjects" } | { "level": "project", project: string, };

export type HostsDocument = {
/**
 * Of the very bytes that were read.
 */
version: string,
/**
 * The file, `~` for the home.
 */
path: string, hosts: Array<HostLine>, editable: boolean,
/**
 * A change asks for the administrator's password.
 */
prompts: boolean,
/**
 * This and the rest: of `computer` only.
 */
usersMayAdd: UsersMayAdd | null, allowPublic: boolean | null, blockPrivate: boolean | null,
/**
 * The preset that the list is equal to.
 */
preset: Preset | null, };

export type HostLine = { target: string, ports: Array<number>, protocol: Protocol, private: boolean, comment: string | null,
/**
 * A wildcard: names below it can carry data out.
 */
tunnel: boolean, };

export type Protocol = "tcp" | "udp";

export type UsersMayAdd = "none" | "public" | "private";

export type Preset = "open" | "balanced" | "locked";

export type HostsChange = { "kind": "add", host: HostFields, } | { "kind": "replace", old: HostFields, host: HostFields, } | { "kind": "remove", host: HostFields, } | { "kind": "preset", preset: Preset, } | { "kind": "undo" };

export type HostFields = { target: string,
/**
 * As typed: `443` or `80, 443`.
 */
ports: string, protocol: Protocol, private: boolean, };

export type FieldProblem = { field: FieldWord, message: string, };

export type FieldWord = "target" | "ports" | "private";

export type DroppedFile = { name: string,
/**
 * Its path in the sandbox; `null` when it is not in the project.
 */
inside: string | null, };

export type LoginState = {
/**
 * One is kept; `null`: this computer has no secret store.
 */
kept: boolean | null,
/**
 * rcc was started with a login in its environment, which comes first.
 */
byEnvironment: boolean, };

export type Ending = { outOfMemory: boolean,
/**
 * What it had, bytes.
 */
memory: number,
/**
 * What it could have, bytes; `null`: the computer has no more.
 */
more: number | null, };

export type Resources = {
/**
 * Bytes.
 */
memory: number | null,
/**
 * Bytes.
 */
memoryLimit: number | null,
/**
 * Cores in use.
 */
cpu: number | null, cores: number | null, processes: number | null, processLimit: number | null,
/**
 * The limits are held.
 */
enforced: boolean,
/**
 * Why not, in words.
 */
why: string | null, };

export type Layer = { name: string,
/**
 * What it takes, bytes.
 */
size: number,
/**
 * When a sandbox was opened with it last, seconds since 1970.
 */
used: number | null,
/**
 * Folders of the projects that ask for its packages, `~` for the home.
 */
projects: Array<string>, };

export type ProjectSettings = {
/**
 * Claude acts without asking.
 */
actAlone: boolean,
/**
 * The login of all projects is not handed in here.
 */
ownLogin: boolean,
/**
 * Programs inside may make namespaces of their own.
 */
userNamespaces: boolean,
/**
 * `dev`, `small`, or a name that the engine knows.
 */
image: string,
/**
 * Bytes; `null` is the default, as for the next two.
 */
memory: number | null, cores: number | null, processes: number | null,
/**
 * What the built image has besides.
 */
packages: Array<string>, offered: Array<PackageOffer>, defaults: LimitDefaults,
/**
 * Changes count for the next session.
 */
running: boolean, };

export type PackageOffer = { packages: Array<string>,
/**
 * The file that suggests them.
 */
because: string, };

export type LimitDefaults = {
/**
 * Bytes.
 */
memory: number, cores: number, processes: number, };

export type SetupLine = { id: SetupId, title: string, state: SetupState, why: string,
/**
 * What a click does.
 */
button: string | null,
/**
 * What a person can run where rcc cannot.
 */
command: string | null, };

export type SetupId = "engine" | "ids" | "firewall" | "image" | "claude" | "preset";

export type SetupState = "good" | "missing" | "optional";

export type About = { version: string, protocol: number, helper: string | null, engine: string | null, claude: string | null, image: string | null, };

export type Wall = { id: WallId, state: WallState, title: string, sentence: string,
/**
 * What holds it here.
 */
layer: string, };

export type WallId = "files" | "network" | "memory" | "calls";

export type WallState = "holds" | "notes" | "open";

export type Tried = {
/**
 * As in docs/threat-model.md.
 */
id: string,
/**
 * What must hold.
 */
what: string, tried: string,
/**
 * What was seen, or why nothing was tried.
 */
seen: string, verdict: VerdictWord, };

export type VerdictWord = "holds" | "open" | "notTried" | "unfinished";

export type WindowSettings = { theme: Theme, contrast: Contrast,
/**
 * CSS pixels, 8 to 32.
 */
fontSize: number, programsMayCopy: boolean,
/**
 * Claude draws in the scrollback; counts for programs that are started then.
 */
scrollback: boolean, notifyNeedsYou: boolean, notifyBlocked: boolean,
/**
 * 0, 7 or 30.
 */
keepLogDays: number, claudeTelemetry: boolean,
/**
 * Closing the window leaves rcc in the tray, where there is one.
 */
closeHides: boolean, };

export type Theme = "system" | "light" | "dark";

export type Contrast = "system" | "high";

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
  | "network_view"
  | "still_blocked"
  | "never_ask"
  | "close_window"
  | "set_network"
  | "open_internet"
  | "review_view"
  | "review_diff"
  | "review_keep"
  | "review_put_back"
  | "review_undo"
  | "hosts"
  | "change_hosts"
  | "check_host"
  | "settings"
  | "save_settings"
  | "resources"
  | "project_settings"
  | "save_project_settings"
  | "layers"
  | "remove_layer"
  | "setup"
  | "mend"
  | "renew"
  | "cancel_mend"
  | "about"
  | "walls"
  | "verify"
  | "terminal_write"
  | "terminal_resize"
  | "terminal_credit"
  | "terminal_close"
  | "end_terminal"
  | "quit"
  | "copy_dropped"
  | "paste_image"
  | "ending"
  | "login"
  | "keep_login"
  | "forget_login"
  | "login_stays_here"
  | "linger"
  | "set_linger"
  | "copy_text"
  | "open_link";

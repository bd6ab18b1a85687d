/** One terminal of a sandbox: its program, and the view that it has once it was looked at. */

import type { Activity, Backend, Opened, Problem, Progress, Screen, Start, TabKind } from "../backend/backend";
import { Credit, Typing } from "../terminal/sending";
import type { TerminalView } from "../terminal/view";

export type TabPhase =
  /** It runs in the sandbox and was not looked at yet. */
  | { kind: "waiting" }
  | { kind: "opening" }
  | { kind: "failed"; problem: Problem }
  | { kind: "live" }
  | { kind: "ended"; code: number }
  | { kind: "lost" };

const KIND_WORDS: Record<TabKind, string> = { claude: "Claude", shell: "Shell", other: "Program" };

let lastKey = 0;

export class Tab {
  readonly key = ++lastKey;
  readonly project: string;
  readonly kind: TabKind;
  readonly label: string;
  /** The sandbox's number, once there is one. */
  number = $state<number | null>(null);
  phase = $state<TabPhase>({ kind: "opening" });
  activity = $state.raw<Activity | null>(null);
  /** Claude finished while nobody looked. */
  unread = $state(false);
  /** It was looked at: from then on it keeps a view. */
  wanted = $state(false);
  readonly #backend: Backend;
  #typing: Typing | null = null;
  #channel: number | null = null;
  #view: TerminalView | null = null;
  #arrived: ((view: TerminalView) => void)[] = [];
  /** Typed when the program showed itself and nobody said yet where it is typed to; before that, nothing. */
  #early: Uint8Array[] | null = null;
  /** Output of a program before the last one is not shown. */
  #generation = 0;

  /** `ordinal`: which of its kind, from 1. */
  constructor(backend: Backend, project: string, kind: TabKind, ordinal: number) {
    this.#backend = backend;
    this.project = project;
    this.kind = kind;
    this.label = kind === "claude" && ordinal === 1 ? KIND_WORDS.claude : `${KIND_WORDS[kind]} ${ordinal}`;
  }

  get live(): boolean {
    return this.phase.kind === "live" || this.phase.kind === "waiting";
  }

  get hasScreen(): boolean {
    return this.phase.kind !== "failed" && this.phase.kind !== "waiting";
  }

  get view(): TerminalView | null {
    return this.#view;
  }

  /** Asks for a program and shows its output; fails as the backend does. */
  async open(start: Start, offline: boolean, told: (progress: Progress) => void): Promise<Opened> {
    const terminal = start === "show" ? this.number : null;
    this.drop();
    const generation = this.#generation;
    this.wanted = true;
    this.phase = { kind: "opening" };
    const view = await this.#shown();
    view.reset();
    const { columns, rows } = view;
    const opened = await this.#backend.open(
      { project: this.project, offline, start, terminal, columns, rows },
      (progress) => {
        if (generation === this.#generation) told(progress);
      },
      this.#screen(generation),
    );
    if (generation !== this.#generation) {
      // It was closed meanwhile.
      void this.#backend.close(opened.terminal).catch(() => undefined);
      return opened;
    }
    this.#channel = opened.terminal;
    this.#typing = new Typing((bytes) => this.#backend.write(opened.terminal, bytes));
    for (const bytes of this.#early ?? []) this.#typing.type(bytes);
    this.#early = null;
    this.number = opened.tab;
    // A program that ends at once has said so already.
    if (this.#isOpening()) this.phase = { kind: "live" };
    if (view.columns !== columns || view.rows !== rows) this.resized(view.columns, view.rows);
    return opened;
  }

  /** Nothing of the program is shown any more; the program goes on. */
  drop(): void {
    this.#generation += 1;
    if (this.#channel !== null) void this.#backend.close(this.#channel).catch(() => undefined);
    this.#channel = null;
    this.#typing = null;
    this.#early = null;
  }

  /** The page made a view for it. */
  attach(view: TerminalView): void {
    this.#view = view;
    for (const arrived of this.#arrived.splice(0)) arrived(view);
  }

  detach(view: TerminalView): void {
    if (this.#view === view) this.#view = null;
  }

  typed(bytes: Uint8Array): void {
    if (this.phase.kind === "live") this.#typing?.type(bytes);
    else if (this.phase.kind === "opening") this.#early?.push(bytes);
  }

  resized(columns: number, rows: number): void {
    if (this.#channel === null || this.phase.kind !== "live") return;
    void this.#backend.resize(this.#channel, columns, rows).catch(() => undefined);
  }

  /** What Claude does; `seen` when the person looks at it just now. */
  took(activity: Activity | null, seen: boolean): void {
    const finished = activity?.state === "done" && activity.turns > 0;
    const changed = activity?.state !== this.activity?.state || activity?.turns !== this.activity?.turns;
    if (!finished) this.unread = false;
    else if (changed) this.unread = !seen;
    this.activity = activity;
  }

  focus(): void {
    this.#view?.focus();
  }

  paste(text: string): void {
    this.#view?.paste(text);
    this.#view?.focus();
  }

  #isOpening(): boolean {
    return this.phase.kind === "opening";
  }

  #shown(): Promise<TerminalView> {
    if (this.#view) return Promise.resolve(this.#view);
    return new Promise((resolve) => this.#arrived.push(resolve));
  }

  #screen(generation: number): Screen {
    const current = () => generation === this.#generation;
    const credit = new Credit((bytes) => {
      // Output comes before the answer that says whose it is.
      if (!current() || this.#channel === null) return false;
      void this.#backend.credit(this.#channel, bytes).catch(() => undefined);
      return true;
    });
    return {
      write: (bytes, credited) => {
        if (!current()) return;
        if (this.#channel === null) this.#early ??= [];
        this.#view?.write(bytes, (taken, waited) => {
          if (credited) credit.drawn(taken, waited, performance.now());
        });
      },
      ended: (code) => {
        if (current()) this.phase = { kind: "ended", code };
      },
      lost: () => {
        if (current()) this.phase = { kind: "lost" };
      },
    };
  }
}

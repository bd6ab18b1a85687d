/** One project in the window: what is being opened, what runs, what went wrong. */

import { asProblem, type Backend, type Opened, type Problem, type Progress, type Screen, type Start, type StepWord } from "../backend/backend";
import { Credit, Typing } from "../terminal/sending";
import type { TerminalView } from "../terminal/view";

/** A step that is quicker than this is never shown (PRODUCT 2.4). */
const QUICK_MS = 300;

/** After so long something is shown, even if no single step is slow. */
const SLOW_MS = 1000;

export type Phase =
  | { kind: "closed" }
  | { kind: "opening" }
  | { kind: "failed"; problem: Problem }
  | { kind: "live" }
  | { kind: "ended"; code: number }
  | { kind: "lost" };

export interface StepView {
  step: StepWord;
  state: "running" | "done" | "failed";
  shown: boolean;
  /** Milliseconds, once it is done. */
  ms: number | null;
  done: number;
  total: number | null;
  text: string;
}

const CANCELLED = "RCC-E002";

export class Sandbox {
  phase = $state<Phase>({ kind: "closed" });
  steps = $state<StepView[]>([]);
  notes = $state<string[]>([]);
  /** The opening takes long enough to be shown. */
  slow = $state(false);
  cancelling = $state(false);
  readonly project: string;
  readonly #backend: Backend;
  #typing: Typing | null = null;
  #terminal: number | null = null;
  #view: TerminalView | null = null;
  #arrived: ((view: TerminalView) => void)[] = [];
  /** Output of an opening that is not the last one is not shown. */
  #opening = 0;

  constructor(backend: Backend, project: string) {
    this.#backend = backend;
    this.project = project;
  }

  /** Whether there is a terminal to look at. */
  get hasScreen(): boolean {
    return this.phase.kind !== "closed" && this.phase.kind !== "failed";
  }

  /** Opens it; what went wrong stands in `phase`. Answers what is there now. */
  async open(start: Start, offline: boolean): Promise<Opened | null> {
    if (this.phase.kind === "opening" || this.phase.kind === "live") return null;
    this.close();
    const opening = this.#opening;
    this.phase = { kind: "opening" };
    this.steps = [];
    this.notes = [];
    this.slow = false;
    this.cancelling = false;
    const slow = setTimeout(() => (this.slow = true), SLOW_MS);
    try {
      const view = await this.#shown();
      view.reset();
      const { columns, rows } = view;
      const request = { project: this.project, offline, start, columns, rows };
      const opened = await this.#backend.open(
        request,
        (progress) => {
          if (opening === this.#opening) this.#take(progress);
        },
        this.#screen(opening),
      );
      const terminal = opened.terminal;
      this.#terminal = terminal;
      this.#typing = new Typing((bytes) => this.#backend.write(terminal, bytes));
      // A program that ends at once has said so already.
      if (this.#opening === opening && this.#isOpening()) this.phase = { kind: "live" };
      if (view.columns !== columns || view.rows !== rows) this.resized(view.columns, view.rows);
      view.focus();
      return opened;
    } catch (error) {
      const problem = asProblem(error);
      // What ran beside the step that failed was broken off.
      this.steps = this.steps.filter((step) => step.state !== "running");
      this.phase = problem.code === CANCELLED ? { kind: "closed" } : { kind: "failed", problem };
      return null;
    } finally {
      clearTimeout(slow);
      this.cancelling = false;
    }
  }

  async cancel(): Promise<void> {
    this.cancelling = true;
    await this.#backend.cancelOpening(this.project);
  }

  /** The person closed what was shown of it: an error, or an ended terminal. */
  close(): void {
    this.#opening += 1;
    if (this.#terminal !== null) void this.#backend.close(this.#terminal).catch(() => undefined);
    this.#terminal = null;
    this.#typing = null;
    this.phase = { kind: "closed" };
  }

  /** The page made a terminal for it. */
  attach(view: TerminalView): void {
    this.#view = view;
    for (const arrived of this.#arrived.splice(0)) arrived(view);
  }

  detach(view: TerminalView): void {
    if (this.#view === view) this.#view = null;
  }

  typed(bytes: Uint8Array): void {
    if (this.phase.kind === "live") this.#typing?.type(bytes);
  }

  resized(columns: number, rows: number): void {
    if (this.#terminal === null || this.phase.kind !== "live") return;
    void this.#backend.resize(this.#terminal, columns, rows).catch(() => undefined);
  }

  focus(): void {
    this.#view?.focus();
  }

  text(): string {
    return this.#view?.text() ?? "";
  }

  copySelection(): void {
    this.#view?.copySelection();
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

  #screen(opening: number): Screen {
    const current = () => opening === this.#opening;
    const credit = new Credit((bytes) => {
      // Output comes before the answer that says whose it is.
      if (!current() || this.#terminal === null) return false;
      void this.#backend.credit(this.#terminal, bytes).catch(() => undefined);
      return true;
    });
    return {
      write: (bytes, credited) => {
        if (!current()) return;
        this.#view?.write(bytes, () => {
          if (credited) credit.drawn(bytes.length);
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

  #take(progress: Progress): void {
    if (progress.kind === "note") {
      if (!this.notes.includes(progress.text)) this.notes.push(progress.text);
      return;
    }
    const view = this.#step(progress.step);
    switch (progress.kind) {
      case "begun":
        setTimeout(() => {
          if (view.state === "running") view.shown = true;
        }, QUICK_MS);
        break;
      case "amount":
        view.done = progress.done;
        view.total = progress.total;
        break;
      case "doing":
        view.text = progress.text;
        break;
      case "done":
        view.state = "done";
        view.ms = progress.ms;
        break;
      case "failed":
        view.state = "failed";
        view.shown = true;
        break;
    }
  }

  #step(step: StepWord): StepView {
    let at = this.steps.findIndex((view) => view.step === step);
    if (at < 0) {
      const view: StepView = { step, state: "running", shown: false, ms: null, done: 0, total: null, text: "" };
      at = this.steps.push(view) - 1;
    }
    // Through the list, so that changes are seen by the page.
    return this.steps[at] as StepView;
  }
}

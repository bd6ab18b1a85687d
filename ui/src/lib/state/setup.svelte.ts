/** What this computer needs, and what is being mended. */

import { asProblem, type Backend, type Problem, type Progress, type SetupId, type SetupLine } from "../backend/backend";

const CANCELLED = "RCC-E002";

/** One line that is being mended, or that could not be. */
export interface Mending {
  busy: boolean;
  done: number;
  total: number | null;
  text: string;
  problem: Problem | null;
}

export class SetupState {
  lines = $state.raw<SetupLine[] | null>(null);
  problem = $state.raw<Problem | null>(null);
  mending = $state<Partial<Record<SetupId, Mending>>>({});
  readonly #backend: Backend;
  readonly #say: (note: string) => void;

  constructor(backend: Backend, say: (note: string) => void) {
    this.#backend = backend;
    this.#say = say;
  }

  /** Nothing required is missing. */
  get ready(): boolean {
    return this.lines !== null && this.lines.every((line) => line.state !== "missing");
  }

  async read(): Promise<void> {
    try {
      this.lines = await this.#backend.setup();
      this.problem = null;
    } catch (error) {
      this.problem = asProblem(error);
    }
  }

  /** Several lines may be mended side by side. */
  async mend(id: SetupId): Promise<void> {
    await this.#work(id, (take) => this.#backend.mend(id, take));
  }

  /** Brings what is there up to date. */
  async renew(id: SetupId): Promise<void> {
    await this.#work(id, (take) => this.#backend.renew(id, take));
  }

  async #work(id: SetupId, work: (take: (progress: Progress) => void) => Promise<SetupLine[]>): Promise<void> {
    if (this.mending[id]?.busy) return;
    this.mending[id] = { busy: true, done: 0, total: null, text: "", problem: null };
    try {
      this.lines = await work((progress) => this.#take(id, progress));
      delete this.mending[id];
    } catch (error) {
      const problem = asProblem(error);
      if (problem.code === CANCELLED) delete this.mending[id];
      else Object.assign(this.mending[id] ?? {}, { busy: false, problem });
    }
  }

  async cancel(id: SetupId): Promise<void> {
    try {
      await this.#backend.cancelMend(id);
    } catch (error) {
      this.problem = asProblem(error);
    }
  }

  #take(id: SetupId, progress: Progress): void {
    const mending = this.mending[id];
    if (!mending) return;
    if (progress.kind === "amount") Object.assign(mending, { done: progress.done, total: progress.total });
    else if (progress.kind === "doing") mending.text = progress.text;
    else if (progress.kind === "note") this.#say(progress.text);
  }
}

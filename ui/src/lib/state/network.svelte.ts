/** What one sandbox reached and what was blocked, while it is looked at. */

import { asProblem, type AllowScope, type Backend, type NetworkLine, type NetworkView, type Problem } from "../backend/backend";

export class NetworkLog {
  view = $state.raw<NetworkView | null>(null);
  problem = $state.raw<Problem | null>(null);
  /** Lines that are being allowed. */
  busy = $state.raw<ReadonlySet<string>>(new Set());
  /** What could not be allowed. */
  refused = $state.raw<NetworkLine | null>(null);
  readonly project: string;
  readonly #backend: Backend;

  constructor(backend: Backend, project: string) {
    this.#backend = backend;
    this.project = project;
  }

  async read(): Promise<void> {
    try {
      this.view = await this.#backend.networkView(this.project);
    } catch (error) {
      this.problem = asProblem(error);
    }
  }

  async allow(line: NetworkLine, scope: AllowScope): Promise<boolean> {
    const { target, port, protocol, reason } = line;
    const request = { project: this.project, target, port, protocol, private: reason === "private", scope };
    this.busy = new Set([...this.busy, target]);
    const done = await this.#try(() => this.#backend.allow(request));
    this.refused = done ? null : line;
    this.busy = new Set([...this.busy].filter((each) => each !== target));
    return done;
  }

  neverAsk(line: NetworkLine, quiet: boolean): Promise<boolean> {
    return this.#try(() => this.#backend.neverAsk(this.project, line.target, quiet));
  }

  async #try(act: () => Promise<void>): Promise<boolean> {
    this.problem = null;
    try {
      await act();
    } catch (error) {
      this.problem = asProblem(error);
      return false;
    }
    await this.read();
    return true;
  }
}

export function lineKey({ target, port, protocol, outcome }: NetworkLine): string {
  return [target, port, protocol, outcome].join("\n");
}

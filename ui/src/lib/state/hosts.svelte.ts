/** The list of allowed hosts of one level, while it is looked at. */

import {
  asProblem,
  type Backend,
  type HostFields,
  type HostLine,
  type HostsChange,
  type HostsDocument,
  type HostsLevel,
  type Problem,
} from "../backend/backend";
import { PRESETS } from "../words";

const CHANGED_MEANWHILE = "RCC-E506";

export class HostList {
  document = $state.raw<HostsDocument | null>(null);
  /** It could not be read or written. */
  problem = $state.raw<Problem | null>(null);
  /** It was read again because somebody else wrote it. */
  changedElsewhere = $state(false);
  busy = $state(false);
  /** What was changed last and can be taken back, in words. */
  undoable = $state.raw<string | null>(null);
  readonly level: HostsLevel;
  readonly #backend: Backend;

  constructor(backend: Backend, level: HostsLevel) {
    this.#backend = backend;
    this.level = level;
  }

  async read(): Promise<void> {
    try {
      this.document = await this.#backend.hosts(this.level);
      this.problem = null;
    } catch (error) {
      this.problem = asProblem(error);
    }
  }

  /** Another program wrote it. Our own writes are told of, too. */
  async readAgain(): Promise<void> {
    if (this.busy) return;
    const before = this.document?.version;
    await this.read();
    if (before !== undefined && this.document?.version !== before) {
      this.changedElsewhere = true;
      this.undoable = null;
    }
  }

  check(fields: HostFields) {
    return this.#backend.checkHost(this.level, fields);
  }

  /** Answers whether it was written; else `problem` or `changedElsewhere` says why not. */
  async change(change: HostsChange): Promise<boolean> {
    if (!this.document || this.busy) return false;
    this.busy = true;
    this.problem = null;
    this.changedElsewhere = false;
    try {
      this.document = await this.#backend.changeHosts(this.level, this.document.version, change);
      this.undoable = done(change);
      return true;
    } catch (error) {
      const problem = asProblem(error);
      if (problem.code !== CHANGED_MEANWHILE) {
        this.problem = problem;
        return false;
      }
      await this.read();
      this.changedElsewhere = true;
      this.undoable = null;
      return false;
    } finally {
      this.busy = false;
    }
  }

  async undo(): Promise<void> {
    await this.change({ kind: "undo" });
  }
}

function done(change: HostsChange): string | null {
  if (change.kind === "remove") return `${change.host.target} was taken out.`;
  return change.kind === "preset" ? `The list is ${PRESETS[change.preset].name} now.` : null;
}

/** As the form has it. */
export function fieldsOf({ target, ports, protocol, private: isPrivate }: HostLine): HostFields {
  return { target, ports: ports.join(", "), protocol, private: isPrivate };
}

export function keyOf({ target, ports, protocol }: HostLine): string {
  return `${target} ${ports.join(",")} ${protocol}`;
}

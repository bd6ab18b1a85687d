/** Hosts that were blocked and wait for the person's word. */

import { asProblem, type Backend, type Blocked, type Problem } from "../backend/backend";

export interface Question extends Blocked {
  state: "asked" | "allowing";
  /** Why it stays blocked after all. */
  problem: Problem | null;
}

export class BlockedHosts {
  questions = $state<Question[]>([]);
  /** Answered with *Not Now*, until the window is closed. */
  readonly #dismissed = new Set<string>();
  readonly #backend: Backend;

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  of(project: string): Question[] {
    return this.questions.filter((question) => question.project === project);
  }

  add(blocked: Blocked): void {
    // The person disconnected: no need to be told of each name.
    if (blocked.reason === "disconnected") return;
    const key = keyOf(blocked);
    if (this.#dismissed.has(key)) return;
    if (this.questions.some((question) => keyOf(question) === key)) return;
    this.questions.push({ ...blocked, state: "asked", problem: null });
  }

  async allow(asked: Question): Promise<void> {
    const key = keyOf(asked);
    const question = this.questions.find((candidate) => keyOf(candidate) === key);
    if (!question || question.state === "allowing") return;
    question.state = "allowing";
    question.problem = null;
    const { project, target, port, protocol, reason } = question;
    try {
      await this.#backend.allow({ project, target, port, protocol, private: reason === "private", scope: "project" });
      this.#remove(key);
    } catch (error) {
      question.problem = asProblem(error);
      question.state = "asked";
    }
  }

  dismiss(question: Question): void {
    const key = keyOf(question);
    this.#dismissed.add(key);
    this.#remove(key);
  }

  /** Lists or a session changed: what is allowed by now is no question any more. */
  async lookAgain(): Promise<void> {
    const asked = this.questions.filter(({ state }) => state === "asked");
    if (asked.length === 0) return;
    try {
      const plain = asked.map(({ project, target, port, protocol, reason }) => ({ project, target, port, protocol, reason }));
      const still = await this.#backend.stillBlocked(plain);
      for (const [at, question] of asked.entries()) if (still[at] === false) this.#remove(keyOf(question));
    } catch {
      // A question too many is better than none.
    }
  }

  /** Sessions that are gone ask for nothing. */
  keepOnly(running: Set<string>): void {
    if (this.questions.some(({ project }) => !running.has(project))) {
      this.questions = this.questions.filter(({ project }) => running.has(project));
    }
  }

  /** It was decided elsewhere. */
  forget(project: string, target: string): void {
    this.questions = this.questions.filter((question) => question.project !== project || question.target !== target);
  }

  #remove(key: string): void {
    this.questions = this.questions.filter((question) => keyOf(question) !== key);
  }
}

/** A name that was only asked for means the web's port. */
export function portOf(blocked: { port: number }): number {
  return blocked.port === 0 ? 443 : blocked.port;
}

/** Whether any rule of a person could open it. */
export function canBeAllowed(blocked: { reason: string | null; protocol: string }): boolean {
  return hasPorts(blocked.protocol) && blocked.reason !== "never" && blocked.reason !== "limit";
}

/** A name that was only asked for has no protocol yet. */
function hasPorts(protocol: string): boolean {
  return ["", "tcp", "udp"].includes(protocol);
}

/** `:5432`, `:53/udp`, ` by icmp`; nothing for the web's usual one. */
export function portWords(blocked: { port: number; protocol: string }): string {
  if (!hasPorts(blocked.protocol)) return ` by ${blocked.protocol}`;
  const port = portOf(blocked);
  if (blocked.protocol === "udp") return `:${port}/udp`;
  return port === 443 ? "" : `:${port}`;
}

function keyOf(blocked: Blocked): string {
  return [blocked.project, blocked.target, portOf(blocked), blocked.protocol].join("\n");
}

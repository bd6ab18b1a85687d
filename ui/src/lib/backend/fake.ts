/**
 * The window without a window, for a browser: projects, openings and a terminal
 * that only pretend. `?projects=none|few|gone`, `?open=warm|cold|no-helper|no-podman`,
 * `?unusable`, `?speed=10` (ten times as fast). In the terminal: `block HOST`, `flood`,
 * `colours`, `link`, `copy TEXT`, `later TEXT`, `ask`, `exit CODE`.
 */

import type {
  Activity,
  Backend,
  Event,
  OpenSandbox,
  Problem,
  Progress,
  Project,
  Screen,
  Session,
  StepWord,
} from "./backend";

const HELPER_MISSING: Problem = {
  code: "RCC-E501",
  title: "The firewall service does not answer. Sandboxes can start offline only.",
  why: "It is not installed, or it could not be started.",
  hint: "Start offline, or install rcc's firewall service and try again.",
  detail: "org.freedesktop.DBus.Error.ServiceUnknown: The name dev.rcc.Helper1 was not provided by any .service files",
};

const ENGINE_MISSING: Problem = {
  code: "RCC-E201",
  title: "Podman is not installed. rcc runs each sandbox with it.",
  why: "No program `podman` was found in PATH.",
  hint: "Install the packages podman and uidmap with your package manager.",
  detail: null,
};

const HOME_REFUSED: Problem = {
  code: "RCC-E102",
  title: "Cannot open your home folder.",
  why: "Claude could then read keys and passwords of every program.",
  hint: "Choose a project folder inside your home.",
  detail: null,
};

const NOT_PUBLIC: Problem = {
  code: "RCC-E505",
  title: "db.internal stays blocked.",
  why: "The administrator allows only public hosts here.",
  hint: "Ask the administrator to allow it for everybody.",
  detail: null,
};

const CANCELLED: Problem = {
  code: "RCC-E002",
  title: "Cancelled.",
  why: "Stopped on your request.",
  hint: "What was begun has been undone.",
  detail: null,
};

const ROOT: Problem = {
  code: "RCC-E003",
  title: "rcc does not run as root.",
  why: "A container of root's would be root's on this computer, too.",
  hint: "Start it as the ordinary user whose sandboxes these are.",
  detail: null,
};

/** Step and its milliseconds; the slow ones move megabytes. */
const COLD: [StepWord, number, number?][] = [
  ["checkFolder", 20],
  ["engine", 900],
  ["image", 6000, 480],
  ["claude", 4000, 175],
  ["startSandbox", 1400],
  ["connectNetwork", 60],
  ["startProgram", 500],
];
const WARM: typeof COLD = [
  ["checkFolder", 5],
  ["engine", 20],
  ["image", 5],
  ["claude", 5],
  ["startSandbox", 120],
  ["connectNetwork", 15],
  ["startProgram", 60],
];

const GREETING = [
  "\x1b[38;2;215;119;87m╭──────────────────────────────────────────╮\x1b[0m",
  "\x1b[38;2;215;119;87m│\x1b[0m \x1b[1m✻ A terminal that only pretends\x1b[0m          \x1b[38;2;215;119;87m│\x1b[0m",
  "\x1b[38;2;215;119;87m│\x1b[0m   \x1b[2m/workspace\x1b[0m                             \x1b[38;2;215;119;87m│\x1b[0m",
  "\x1b[38;2;215;119;87m╰──────────────────────────────────────────╯\x1b[0m",
  "",
].join("\r\n");

const PROMPT = "\x1b[1;34m>\x1b[0m ";

interface Running {
  number: number;
  project: string;
  screen: Screen;
  line: string;
  /** Bytes that may still be sent. */
  credit: number;
  flooding: boolean;
}

export function fake(options: URLSearchParams): Backend {
  return new Fake(options);
}

class Fake implements Backend {
  readonly #options: URLSearchParams;
  readonly #speed: number;
  readonly #projects: Project[];
  readonly #terminals = new Map<number, Running>();
  readonly #openings = new Map<string, () => void>();
  #tell: (event: Event) => void = () => undefined;
  #last = 0;

  constructor(options: URLSearchParams) {
    this.#options = options;
    this.#speed = Number(options.get("speed") ?? "1");
    this.#projects = examples(options.get("projects") ?? "few");
    // For tests: what was asked for, and a way to let things happen.
    Object.assign(window, { __rccFake: { tell: (event: Event) => this.#tell(event), calls: this.calls } });
  }

  readonly calls: unknown[][] = [];

  async hello(onEvent: (event: Event) => void) {
    this.#tell = onEvent;
    return { version: "0.1.0", automation: true, problem: this.#options.has("unusable") ? ROOT : null };
  }

  async projects() {
    return structuredClone(this.#projects);
  }

  async lookAgain() {
    this.#tell({ kind: "projects" });
  }

  async showTitle(id: string | null) {
    document.title = id === null ? "rcc" : `${this.#find(id).name} – rcc`;
  }

  async chooseFolder() {
    if (this.#options.get("choose") === "home") throw HOME_REFUSED;
    const id = "00000000000000aa";
    if (!this.#projects.some((project) => project.id === id)) {
      this.#projects.unshift(example(id, "new-idea", "~/code/new-idea", null));
    }
    return id;
  }

  async forget(id: string) {
    this.#projects.splice(this.#projects.findIndex((project) => project.id === id), 1);
  }

  async open(request: OpenSandbox, onProgress: (progress: Progress) => void, screen: Screen) {
    const project = this.#find(request.project);
    const cancelled = new Promise<never>((_, reject) => {
      this.#openings.set(project.id, () => reject(CANCELLED));
    });
    try {
      await Promise.race([this.#steps(request, project, onProgress), cancelled]);
    } finally {
      this.#openings.delete(project.id);
    }
    const network = request.offline ? "offline" : (project.session?.network ?? "connected");
    const activity: Activity = { state: "done", detail: null, turns: 0, since: seconds() };
    const session: Session = { network, image: "dev", activity: project.session?.activity ?? activity };
    project.session = session;
    project.opened = seconds();
    const number = ++this.#last;
    const terminal = { number, project: project.id, screen, line: "", credit: 256 * 1024, flooding: false };
    this.#terminals.set(number, terminal);
    this.#say(terminal, GREETING + PROMPT);
    return { terminal: number, session: structuredClone(session) };
  }

  async cancelOpening(project: string) {
    this.#openings.get(project)?.();
  }

  async stop(project: string) {
    this.#find(project).session = null;
    for (const terminal of this.#terminals.values()) {
      if (terminal.project === project) this.#end(terminal, () => terminal.screen.lost());
    }
  }

  async allow(request: { target: string; private: boolean }) {
    this.calls.push(["allow", request]);
    await this.#wait(300);
    if (request.private) throw NOT_PUBLIC;
  }

  async write(number: number, bytes: Uint8Array) {
    const terminal = this.#terminals.get(number);
    if (!terminal) return;
    for (const letter of new TextDecoder().decode(bytes)) this.#key(terminal, letter);
  }

  async resize(number: number, columns: number, rows: number) {
    this.calls.push(["resize", number, columns, rows]);
  }

  async credit(number: number, bytes: number) {
    const terminal = this.#terminals.get(number);
    if (terminal) terminal.credit += bytes;
  }

  async close(number: number) {
    this.#terminals.delete(number);
  }

  async copy(text: string) {
    this.calls.push(["copy", text]);
  }

  async openLink(url: string) {
    this.calls.push(["openLink", url]);
  }

  async #steps(request: OpenSandbox, project: Project, tell: (progress: Progress) => void) {
    if (project.session) return;
    const how = this.#options.get("open") ?? "cold";
    const steps = how === "warm" ? WARM : COLD;
    if (this.#options.has("note")) tell({ kind: "note", text: "This computer cannot limit a sandbox's memory." });
    for (const [step, ms, megabytes] of steps) {
      if (step === "connectNetwork" && request.offline) continue;
      tell({ kind: "begun", step });
      if (how === "no-podman" && step === "engine") await this.#fail(step, ENGINE_MISSING, tell);
      // The real one looks for the service before anything slow.
      if (how === "no-helper" && step === "image" && !request.offline) {
        await this.#fail("connectNetwork", HELPER_MISSING, tell);
      }
      for (let part = 1; part <= 20; part += 1) {
        await this.#wait(ms / 20);
        if (megabytes) tell({ kind: "amount", step, done: (megabytes * 1e6 * part) / 20, total: megabytes * 1e6 });
      }
      tell({ kind: "done", step, ms });
    }
  }

  async #fail(step: StepWord, problem: Problem, tell: (progress: Progress) => void): Promise<never> {
    await this.#wait(400);
    tell({ kind: "failed", step });
    throw problem;
  }

  #key(terminal: Running, letter: string): void {
    if (letter === "\x03") {
      terminal.flooding = false;
      terminal.line = "";
      this.#say(terminal, `^C\r\n${PROMPT}`);
    } else if (letter === "\r") {
      const line = terminal.line.trim();
      terminal.line = "";
      this.#say(terminal, "\r\n");
      this.#run(terminal, line);
    } else if (letter === "\x7f") {
      if (terminal.line) this.#say(terminal, "\b \b");
      terminal.line = terminal.line.slice(0, -1);
    } else if (letter >= " ") {
      terminal.line += letter;
      this.#say(terminal, letter);
    }
  }

  #run(terminal: Running, line: string): void {
    const [command, ...rest] = line.split(" ");
    const argument = rest.join(" ");
    switch (command) {
      case "exit":
        this.#end(terminal, () => terminal.screen.ended(Number(argument || "0")));
        return;
      case "flood":
        void this.#flood(terminal);
        return;
      case "block":
        this.#tell({
          kind: "blocked",
          project: terminal.project,
          target: argument || "registry.example.org",
          port: argument.startsWith("db.") ? 5432 : 0,
          protocol: "tcp",
          reason: argument.startsWith("db.") ? "private" : argument.startsWith("169.") ? "never" : "not-allowed",
        });
        break;
      case "ask": {
        const activity: Activity = { state: "needsYou", detail: argument || "Which database?", turns: 1, since: seconds() };
        const { session } = this.#find(terminal.project);
        if (session) session.activity = activity;
        this.#tell({ kind: "activity", project: terminal.project, activity });
        break;
      }
      case "colours":
        for (let n = 0; n < 16; n += 1) {
          this.#say(terminal, `\x1b[38;5;${n}mcolour ${n}\x1b[0m  ${n % 4 === 3 ? "\r\n" : ""}`);
        }
        this.#say(terminal, "\x1b[38;2;10;200;120mtrue colour\x1b[0m ünïcödé 漢字 🙂\r\n");
        break;
      case "link":
        this.#say(terminal, "https://example.org/page and \x1b]8;;javascript:alert(1)\x07harmless\x1b]8;;\x07\r\n");
        break;
      case "copy":
        this.#say(terminal, `\x1b]52;c;${btoa(argument)}\x07\x1b]52;c;?\x07`);
        break;
      case "later":
        setTimeout(() => this.#say(terminal, `\x1b]52;c;${btoa(argument)}\x07late`), 600);
        break;
      default:
        if (line) this.#say(terminal, `You said: ${line}\r\n`);
    }
    this.#say(terminal, PROMPT);
  }

  async #flood(terminal: Running): Promise<void> {
    terminal.flooding = true;
    const bytes = new TextEncoder().encode("y\r\n".repeat(20_000));
    while (terminal.flooding && this.#terminals.has(terminal.number)) {
      if (terminal.credit > 0) {
        terminal.credit -= bytes.length;
        terminal.screen.write(bytes, true);
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  #end(terminal: Running, how: () => void): void {
    terminal.flooding = false;
    this.#terminals.delete(terminal.number);
    how();
  }

  #say(terminal: Running, text: string): void {
    const bytes = new TextEncoder().encode(text);
    terminal.credit -= bytes.length;
    terminal.screen.write(bytes, true);
  }

  #find(id: string): Project {
    const project = this.#projects.find((candidate) => candidate.id === id);
    if (!project) throw new Error(`no project ${id}`);
    return project;
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, ms / this.#speed));
  }
}

function seconds(): number {
  return Math.floor(Date.now() / 1000);
}

function example(id: string, name: string, path: string, opened: number | null): Project {
  return { id, name, path, exists: true, opened, session: null };
}

function examples(which: string): Project[] {
  if (which === "none") return [];
  const now = seconds();
  const asks = example("0000000000000001", "web-shop", "~/code/clients/a-rather-long-name/web-shop", now - 1200);
  asks.session = {
    network: "connected",
    image: "dev",
    activity: { state: "needsYou", detail: "Which database should the orders go to?", turns: 4, since: now - 90 },
  };
  const works = example("0000000000000002", "api", "~/code/api", now - 3600);
  works.session = {
    network: "connected",
    image: "dev",
    activity: { state: "working", detail: null, turns: 1, since: now - 20 },
  };
  const list = [
    asks,
    works,
    example("0000000000000003", "notes", "~/notes", now - 2 * 86400),
    example("0000000000000004", "data-pipeline", "/srv/work/data-pipeline", null),
  ];
  if (which === "gone") list.push({ ...example("0000000000000005", "old-site", "~/old-site", now - 9e6), exists: false });
  return list;
}

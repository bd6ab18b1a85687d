/**
 * The window without a window, for a browser: everything only pretends. `?projects=none|few|gone|many|hostile`,
 * `?open=warm|cold|no-helper|no-podman`, `?network=none|hostile|many`, `?hosts=none|many`, `?setup=bare`, `?limits=none`, `?walls=open|unknown`, `?verify=open`,
 * `?login=offered|none`, `?linger=none`, `?ending=memory|all-memory`, `?clipboard=image`, `?packages=none`, `?layers=none`, `?answer=late`,
 * `?review=some`, `?theme=light|dark`, `?unusable`, `?speed=10` (ten times as fast). For the terminal see programs.ts.
 */

import type {
  Activity,
  AllowHost,
  Backend,
  Blocked,
  DroppedFile,
  Event,
  HostFields,
  HostsChange,
  HostsLevel,
  NetworkLine,
  OpenSandbox,
  Problem,
  Progress,
  Project,
  ProjectSettings,
  Screen,
  SetupId,
  StepWord,
  WindowSettings,
} from "../backend";
import * as examples from "./examples";
import { seconds } from "./examples";
import { FakeHosts } from "./hosts";
import { FakeReview } from "./review";
import * as problems from "./problems";
import { Program } from "./programs";

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

export function fake(options: URLSearchParams): Backend {
  return new Fake(options);
}

class Fake implements Backend {
  readonly #options: URLSearchParams;
  readonly #speed: number;
  readonly #projects: Project[];
  readonly #programs: Program[] = [];
  readonly #channels = new Map<number, Program>();
  readonly #openings = new Map<string, () => void>();
  readonly #mending = new Map<SetupId, () => void>();
  readonly #lines = new Map<string, NetworkLine[]>();
  readonly #projectSettings = new Map<string, ProjectSettings>();
  readonly #hosts: FakeHosts;
  readonly #reviews = new Map<string, FakeReview>();
  #settings: WindowSettings;
  #layers;
  #setup;
  #tell: (event: Event) => void = () => undefined;
  #lastChannel = 0;
  #lastNumber = 10;
  #asked = 0;
  #kept = false;
  #lingers = false;
  #dropped: DroppedFile[] = [];
  readonly #failing = new Set<string>();
  readonly calls: unknown[][] = [];

  constructor(options: URLSearchParams) {
    this.#options = options;
    this.#speed = Number(options.get("speed") ?? "1");
    this.#projects = examples.projects(options.get("projects") ?? "few");
    this.#hosts = new FakeHosts(options.get("hosts") ?? "few");
    if (options.get("review") === "some") this.#reviews.set("0000000000000002", new FakeReview());
    this.#layers = options.get("layers") === "none" ? [] : examples.layers();
    this.#setup = examples.setup(options.get("setup") ?? "good");
    if (options.get("login") === "offered") for (const project of this.#projects) project.offerLogin = project.session !== null;
    this.#settings = { ...examples.SETTINGS, theme: (options.get("theme") ?? "system") as WindowSettings["theme"] };
    for (const { id, session } of this.#projects) {
      for (const { number, kind } of session?.terminals ?? []) this.#programs.push(new Program(number, id, kind, this.#told));
    }
    // For tests and for the console of the browser.
    Object.assign(window, {
      __rccFake: {
        calls: this.calls,
        tell: (event: Event) => this.#tell(event),
        /** As if the person had dropped files. */
        drop: (files: DroppedFile[]) => {
          this.#dropped = files;
          this.#tell({ kind: "files", files });
        },
        /** A session, or one more Claude in it, that begins elsewhere. */
        begin: async (project: string) => {
          const request: OpenSandbox = { project, offline: false, start: "new", terminal: null, columns: 80, rows: 24 };
          await this.open(request, () => {}, { write: () => {}, ended: () => {}, lost: () => {} });
          this.#tell({ kind: "projects" });
        },
        /** A session that ends elsewhere. */
        lose: (project: string) => this.stop(project).then(() => this.#tell({ kind: "projects" })),
        /** The agent writes a hook in the project. */
        hook: (project: string) => {
          this.#reviewOf(project).add();
          this.#reviewed(project);
        },
        /** What is shown changed again meanwhile. */
        changeAgain: (project: string) => this.#reviewOf(project).changeAgain(),
        /** Claude of a project prints something by itself. */
        say: (project: string, text: string) => this.#programs.find((program) => program.project === project)?.say(text),
        block: (project: string, target: string) => this.#block(project, target),
        /** Allowed by a notification, or on the command line. */
        allowElsewhere: (project: string, target: string) => {
          for (const line of this.#linesOf(project)) if (line.target === target) line.outcome = "reached";
          this.#tell({ kind: "network", project });
        },
        /** The person mended the rest in a terminal. */
        mended: () => (this.#setup = examples.setup("good")),
        /** The next call of that name fails. */
        fail: (call: string) => this.#failing.add(call),
        untouchHosts: (level: HostsLevel, target: string) => this.#hosts.untouch(level, target),
        touchHosts: (level: HostsLevel, target: string) => this.#hosts.touch(level, target),
      },
    });
  }

  async hello(onEvent: (event: Event) => void) {
    this.#tell = onEvent;
    const problem = this.#options.has("unusable") ? problems.ROOT : null;
    const setup = this.#setup.some((line) => line.state === "missing");
    return { version: "0.1.0", automation: true, problem, settings: { ...this.#settings }, setup };
  }

  async projects() {
    for (const project of this.#projects) Object.assign(project, this.#reviews.get(project.id)?.counts());
    return structuredClone(this.#projects);
  }

  async lookAgain() {
    this.#tell({ kind: "projects" });
  }

  async showTitle(project: string | null) {
    document.title = project ? `${this.#find(project).name} – rcc` : "rcc";
  }

  async chooseFolder() {
    if (this.#options.get("choose") === "home") throw problems.HOME_REFUSED;
    const id = "00000000000000aa";
    if (!this.#projects.some((project) => project.id === id)) {
      this.#projects.unshift(examples.project(id, "new-idea", "~/code/new-idea", null));
    }
    return id;
  }

  async forget(id: string) {
    this.#projects.splice(this.#projects.findIndex((project) => project.id === id), 1);
  }

  async open(request: OpenSandbox, onProgress: (progress: Progress) => void, screen: Screen) {
    this.calls.push(["open", request]);
    const project = this.#find(request.project);
    const cancelled = new Promise<never>((_, reject) => {
      this.#openings.set(project.id, () => reject(problems.CANCELLED));
    });
    try {
      await Promise.race([this.#steps(request, project, onProgress), cancelled]);
    } finally {
      this.#openings.delete(project.id);
    }
    project.opened = seconds();
    project.resumable = true;
    project.session ??= {
      network: request.offline ? "offline" : "connected",
      openUntil: null,
      image: this.#settingsOf(project.id).image,
      activity: null,
      terminals: [],
    };
    const program = this.#program(request, project);
    this.#count(project);
    const terminal = ++this.#lastChannel;
    this.#channels.set(terminal, program);
    program.attach(terminal, screen);
    if (this.#options.get("answer") === "late") await this.#wait(600);
    return { terminal, tab: program.number, session: structuredClone(project.session) };
  }

  async cancelOpening(project: string) {
    this.#openings.get(project)?.();
  }

  async stop(id: string) {
    this.calls.push(["stop", id]);
    this.#find(id).session = null;
    for (const program of this.#programs.filter(({ project }) => project === id)) {
      program.lose();
      this.#programs.splice(this.#programs.indexOf(program), 1);
    }
  }

  async endTerminal(id: string, tab: number) {
    this.calls.push(["endTerminal", id, tab]);
    const at = this.#programs.findIndex(({ project, number }) => project === id && number === tab);
    const program = this.#programs[at];
    if (!program) return;
    this.#programs.splice(at, 1);
    if (program.exit === null) program.end(129);
    this.#count(this.#find(id));
  }

  async allow(request: AllowHost) {
    this.calls.push(["allow", request]);
    await this.#wait(300);
    if (request.private) throw problems.NOT_PUBLIC;
    for (const line of this.#linesOf(request.project)) {
      if (line.target === request.target) Object.assign(line, { outcome: "reached", reason: null });
    }
    this.#tell({ kind: "network", project: request.project });
  }

  async networkView(id: string) {
    const project = this.#find(id);
    project.blocked = 0;
    const state = project.session?.network ?? "offline";
    const lines = structuredClone(this.#linesOf(id));
    return { state, openUntil: project.session?.openUntil ?? null, lines, more: Math.max(0, lines.length - 500) };
  }

  async stillBlocked(questions: Blocked[]) {
    const allowed = (question: Blocked) =>
      this.#linesOf(question.project).some(({ target, outcome }) => target === question.target && outcome === "reached");
    return questions.map((question) => !allowed(question));
  }

  async neverAsk(project: string, target: string, quiet: boolean) {
    this.calls.push(["neverAsk", project, target, quiet]);
    for (const line of this.#linesOf(project)) if (line.target === target) line.quiet = quiet;
    this.#tell({ kind: "network", project });
  }

  async setNetwork(id: string, connected: boolean) {
    this.calls.push(["setNetwork", id, connected]);
    await this.#wait(100);
    const { session } = this.#find(id);
    if (session) Object.assign(session, { network: connected ? "connected" : "disconnected", openUntil: null });
    this.#changed(id);
  }

  async openInternet(id: string, length: number) {
    this.calls.push(["openInternet", id, length]);
    const { session } = this.#find(id);
    if (session) session.openUntil = length > 0 ? seconds() + length : null;
    this.#changed(id);
  }

  async hosts(level: HostsLevel) {
    return this.#hosts.read(level);
  }

  async changeHosts(level: HostsLevel, version: string, change: HostsChange) {
    this.calls.push(["changeHosts", level, version, change]);
    await this.#wait(50);
    if (this.#failing.delete("changeHosts")) throw problems.NOT_ASKED;
    return this.#hosts.change(level, version, change);
  }

  async checkHost(_level: HostsLevel, fields: HostFields) {
    return this.#hosts.check(fields);
  }

  async review(id: string) {
    return this.#reviewOf(id).view();
  }

  async reviewDiff(id: string, change: string) {
    await this.#wait(20);
    return this.#reviewOf(id).diff(change);
  }

  async reviewKeep(id: string, changes: string[]) {
    this.calls.push(["reviewKeep", id, changes]);
    this.#reviewOf(id).keep(changes);
    this.#reviewed(id);
  }

  async reviewPutBack(id: string, changes: string[]) {
    this.calls.push(["reviewPutBack", id, changes]);
    this.#reviewOf(id).putBack(changes);
    this.#reviewed(id);
  }

  async reviewUndo(id: string) {
    this.calls.push(["reviewUndo", id]);
    this.#reviewOf(id).undo();
    this.#reviewed(id);
  }

  async resources(_project: string) {
    return examples.resources(this.#held, ++this.#asked);
  }

  async projectSettings(id: string) {
    return { ...structuredClone(this.#settingsOf(id)), running: this.#find(id).session !== null };
  }

  async saveProjectSettings(id: string, settings: ProjectSettings) {
    this.calls.push(["saveProjectSettings", id, settings]);
    this.#projectSettings.set(id, structuredClone(settings));
  }

  async layers() {
    return structuredClone(this.#layers);
  }

  async removeLayer(name: string) {
    this.calls.push(["removeLayer", name]);
    await this.#wait(200);
    if (this.#failing.delete("removeLayer")) throw problems.LAYER_IN_USE;
    this.#layers = this.#layers.filter((layer) => layer.name !== name);
    return structuredClone(this.#layers);
  }

  async setup() {
    return structuredClone(this.#setup);
  }

  async mend(id: SetupId, onProgress: (progress: Progress) => void) {
    this.calls.push(["mend", id]);
    const megabytes = { image: 480, claude: 175 }[id as string] ?? 0;
    const step: StepWord = id === "claude" ? "claude" : id === "image" ? "image" : "engine";
    const cancelled = new Promise<never>((_, reject) => this.#mending.set(id, () => reject(problems.CANCELLED)));
    const work = async () => {
      onProgress({ kind: "begun", step });
      for (let part = 1; part <= 40; part += 1) {
        await this.#wait(100);
        if (megabytes) onProgress({ kind: "amount", step, done: (megabytes * 1e6 * part) / 40, total: megabytes * 1e6 });
      }
      if (this.#options.get("mend") === "fails") throw problems.MEND_FAILED;
    };
    await Promise.race([work(), cancelled]);
    const good = examples.setup("good").find((line) => line.id === id);
    this.#setup = this.#setup.map((line) => (line.id === id && good ? good : line));
    return structuredClone(this.#setup);
  }

  async renew(id: SetupId, onProgress: (progress: Progress) => void) {
    this.calls.push(["renew", id]);
    const cancelled = new Promise<never>((_, reject) => this.#mending.set(id, () => reject(problems.CANCELLED)));
    const work = async () => {
      onProgress({ kind: "doing", step: id === "claude" ? "claude" : "image", text: "Unpacking base-files" });
      await this.#wait(2000);
      if (this.#options.get("renew") === "fails") throw problems.MEND_FAILED;
    };
    await Promise.race([work(), cancelled]);
    const newer = { image: "dev, built today, 480 MB.", claude: "2.1.331, fetched and checked." }[id as string] ?? "";
    const same = this.#setup.some((line) => line.id === id && line.why === newer);
    const words = { image: "The image is built again; new sessions use it.", claude: "Claude Code 2.1.331 is there; new sessions use it." }[id as string] ?? "";
    onProgress({ kind: "note", text: same && id === "claude" ? "Claude Code 2.1.331 is the newest." : words });
    this.#setup = this.#setup.map((line) => (line.id === id ? { ...line, why: newer } : line));
    return structuredClone(this.#setup);
  }

  async cancelMend(id: SetupId) {
    this.#mending.get(id)?.();
  }

  async settings() {
    return { ...this.#settings };
  }

  async saveSettings(settings: WindowSettings) {
    this.calls.push(["saveSettings", settings]);
    if (this.#failing.delete("saveSettings")) throw problems.NOT_SAVED;
    this.#settings = { ...settings };
  }

  async about() {
    return { version: "0.1.0", protocol: 1, helper: "0.1.0", engine: "Podman 5.4.2", claude: "2.1.330", image: "dev, built 3 days ago" };
  }

  async walls(id: string) {
    if (this.#options.get("walls") === "unknown") throw problems.ENGINE_MISSING;
    const { session } = this.#find(id);
    const walls = examples.walls(session?.network === "offline", this.#held, session?.openUntil != null);
    return this.#options.get("walls") === "open" ? walls.map((wall) => (wall.id === "calls" ? examples.NO_SECCOMP : wall)) : walls;
  }

  async ending(id: string) {
    this.calls.push(["ending", id]);
    const how = this.#options.get("ending");
    const { memory } = this.#settingsOf(id);
    return { outOfMemory: how !== null, memory: memory ?? 8 * examples.GIB, more: how === "all-memory" ? null : 12 * examples.GIB };
  }

  async copyDropped(project: string) {
    this.calls.push(["copyDropped", project]);
    if (this.#failing.delete("copyDropped")) throw problems.NOT_SAVED;
    return this.#dropped.filter(({ inside }) => inside === null).map(({ name }) => `/workspace/${name}`);
  }

  async pasteImage(project: string) {
    this.calls.push(["pasteImage", project]);
    return this.#options.get("clipboard") === "image" ? "/tmp/clipboard-1.png" : null;
  }

  async login() {
    return { kept: this.#options.get("login") === "none" ? null : this.#kept, byEnvironment: false };
  }

  async keepLogin(token: string) {
    this.calls.push(["keepLogin", token]);
    await this.#wait(100);
    if (!token.trim().startsWith("sk-ant-oat")) throw problems.NO_TOKEN;
    this.#kept = true;
    for (const project of this.#projects) project.offerLogin = false;
    this.#tell({ kind: "projects" });
  }

  async forgetLogin() {
    this.calls.push(["forgetLogin"]);
    this.#kept = false;
  }

  async loginStaysHere(id: string) {
    this.calls.push(["loginStaysHere", id]);
    this.#find(id).offerLogin = false;
    this.#tell({ kind: "projects" });
  }

  async linger() {
    return this.#options.get("linger") === "none" ? null : this.#lingers;
  }

  async setLinger(on: boolean) {
    this.calls.push(["setLinger", on]);
    this.#lingers = on;
  }

  async verify(id: string) {
    this.calls.push(["verify", id]);
    await this.#wait(400);
    return examples.tried(this.#options.get("verify") === "open");
  }

  async closeWindow() {
    this.calls.push(["closeWindow"]);
  }

  async quit(stop: boolean) {
    this.calls.push(["quit", stop]);
  }

  async write(channel: number, bytes: Uint8Array) {
    const text = new TextDecoder().decode(bytes);
    this.calls.push(["write", text]);
    this.#channels.get(channel)?.type(text);
  }

  async resize(channel: number, columns: number, rows: number) {
    this.calls.push(["resize", channel, columns, rows]);
  }

  async credit(channel: number, bytes: number) {
    this.#channels.get(channel)?.credit(channel, bytes);
  }

  async close(channel: number) {
    this.#channels.get(channel)?.detach(channel);
    this.#channels.delete(channel);
  }

  async copy(text: string) {
    this.calls.push(["copy", text]);
  }

  async openLink(url: string) {
    this.calls.push(["openLink", url]);
  }

  readonly #told = {
    ended: (program: Program) => {
      this.#count(this.#find(program.project));
      this.#tell({ kind: "projects" });
    },
    activity: (program: Program, activity: Activity) => {
      const project = this.#find(program.project);
      const tab = project.session?.terminals.find(({ number }) => number === program.number);
      if (tab) tab.activity = activity;
      if (project.session) project.session.activity = activity;
      const terminals = structuredClone(project.session?.terminals ?? []);
      this.#tell({ kind: "activity", project: project.id, activity, terminals });
    },
    blocked: (program: Program, target: string) => this.#block(program.project, target),
  };

  #reviewOf(id: string): FakeReview {
    const review = this.#reviews.get(id) ?? new FakeReview([]);
    this.#reviews.set(id, review);
    return review;
  }

  #reviewed(project: string): void {
    this.#tell({ kind: "review", project });
    this.#tell({ kind: "projects" });
  }

  #block(project: string, target: string): void {
    const isPrivate = target.startsWith("db.");
    const reason = isPrivate ? "private" : target.startsWith("169.") ? "never" : "not-allowed";
    const port = isPrivate ? 5432 : 0;
    this.#linesOf(project).unshift({
      target, address: null, port, protocol: "tcp", outcome: "blocked", reason, count: 1, last: seconds(), quiet: false,
    });
    this.#find(project).blocked += 1;
    this.#tell({ kind: "blocked", project, target, port, protocol: "tcp", reason });
    this.#tell({ kind: "network", project });
  }

  get #held(): boolean {
    return this.#options.get("limits") !== "none";
  }

  #program(request: OpenSandbox, project: Project): Program {
    const own = this.#programs.filter((program) => program.project === project.id);
    if (request.start === "show") {
      const shown = own.find(({ number, kind }) => (request.terminal === null ? kind === "claude" : number === request.terminal));
      if (shown) return shown;
    }
    if (own.length >= 16) throw problems.TERMINAL;
    const kind = request.start === "shell" ? "shell" : request.start === "login" ? "other" : "claude";
    const program = new Program(++this.#lastNumber, project.id, kind, this.#told);
    this.#programs.push(program);
    return program;
  }

  /** Terminals of the session, as the programs are now. */
  #count(project: Project): void {
    const { session } = project;
    if (!session) return;
    const before = session.terminals;
    const ready: Activity = { state: "done", detail: null, turns: 0, since: seconds() };
    session.terminals = this.#programs
      .filter((program) => program.project === project.id)
      .map(({ number, kind, exit }) => {
        const ended: Activity | null = exit === null ? null : { ...ready, state: "ended" };
        const known = ended ?? before.find((tab) => tab.number === number)?.activity;
        return { number, kind, exit, activity: kind === "claude" ? (known ?? ready) : null };
      });
    // One that runs comes before one that ended, as in the window.
    const runs = session.terminals.some(({ kind, exit }) => kind === "claude" && exit === null);
    if (!runs && session.terminals.length > 0) session.activity = null;
    session.activity ??= session.terminals.find(({ activity }) => activity)?.activity ?? null;
  }

  #changed(project: string): void {
    this.#tell({ kind: "projects" });
    this.#tell({ kind: "network", project });
  }

  #linesOf(project: string): NetworkLine[] {
    let lines = this.#lines.get(project);
    if (!lines) this.#lines.set(project, (lines = examples.networkLines(this.#options.get("network") ?? "few")));
    return lines;
  }

  #settingsOf(project: string): ProjectSettings {
    const settings = this.#projectSettings.get(project) ?? examples.projectSettings();
    return this.#options.get("packages") === "none" ? { ...settings, offered: [] } : settings;
  }

  async #steps(request: OpenSandbox, project: Project, tell: (progress: Progress) => void) {
    if (project.session) return;
    const how = this.#options.get("open") ?? "cold";
    const steps = how === "warm" ? WARM : COLD;
    if (this.#options.has("note")) tell({ kind: "note", text: "This computer cannot limit a sandbox's memory." });
    for (const [step, ms, megabytes] of steps) {
      if (step === "connectNetwork" && request.offline) continue;
      tell({ kind: "begun", step });
      if (how === "no-podman" && step === "engine") await this.#fail(step, problems.ENGINE_MISSING, tell);
      // The real one looks for the service before anything slow.
      if (how === "no-helper" && step === "image" && !request.offline) {
        await this.#fail("connectNetwork", problems.HELPER_MISSING, tell);
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

  #find(id: string): Project {
    const project = this.#projects.find((candidate) => candidate.id === id);
    if (!project) throw new Error(`no project ${id}`);
    return project;
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, ms / this.#speed));
  }
}

/** Everything that the page shows. */

import { tick } from "svelte";
import { SvelteMap } from "svelte/reactivity";
import { asProblem, type Backend, type DroppedFile, type Event, type Problem, type Project, type Session, type Start } from "../backend/backend";
import { BlockedHosts } from "./blocked.svelte";
import { parse, type ProjectView, type Route, routeOf, write } from "./route";
import { Sandbox } from "./sandbox.svelte";
import { Settings } from "./settings.svelte";
import { typedPaths } from "../terminal/paths";
import type { Tab } from "./tab.svelte";

/** Where the last run was, in this web view's own storage: a convenience. */
const KEPT = { sidebar: "rcc.sidebar", route: "rcc.route" };

/** So long a passing message stays. */
const TOAST_MS = 4000;

/** In a window as narrow as this the sidebar lies over the page (App.svelte). */
const NARROW = matchMedia("(max-width: 640px)");

/** What stands in front of the window; there is at most one. */
export type Asked =
  | { kind: "stop"; project: Project }
  | { kind: "closeTab"; sandbox: Sandbox; tab: Tab }
  | { kind: "openInternet"; project: Project }
  | { kind: "copyFiles"; names: string[]; tab: Tab }
  | { kind: "quit"; running: number }
  | { kind: "tray" }
  | { kind: "keys" }
  | { kind: "switcher" };

export class WindowState {
  projects = $state<Project[]>([]);
  route = $state.raw<Route>({ page: "projects" });
  /** The list was read once. */
  ready = $state(false);
  /** Nothing can be opened at all. */
  unusable = $state.raw<Problem | null>(null);
  /** A folder that cannot be opened, a session that does not stop. */
  problem = $state.raw<Problem | null>(null);
  sidebar = $state(!NARROW.matches && localStorage.getItem(KEPT.sidebar) !== "hidden");
  asked = $state.raw<Asked | null>(null);
  /** The find bar of the terminal in sight. */
  finding = $state(false);
  /** A line of the network page that the person wants to see. */
  line = $state<string | null>(null);
  toast = $state<string | null>(null);
  /** Something is held over the window. */
  dragging = $state<"folder" | "files" | null>(null);
  /** The window has the focus of the desktop. */
  focused = $state(document.hasFocus());
  automation = $state(false);
  version = $state("");
  /** Programs that tried to copy and were not let. */
  droppedCopies = $state(0);
  readonly sandboxes = new SvelteMap<string, Sandbox>();
  /** How often something changed that a page may have to read again, by its name. */
  readonly changes = new SvelteMap<string, number>();
  readonly blocked: BlockedHosts;
  readonly settings: Settings;
  readonly backend: Backend;
  #toastTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(backend: Backend) {
    this.backend = backend;
    this.blocked = new BlockedHosts(backend);
    this.settings = new Settings(backend);
    NARROW.addEventListener("change", ({ matches }) => (this.sidebar = !matches));
    window.addEventListener("hashchange", () => {
      if (location.hash !== write(this.route)) this.#enter(parse(location.hash));
    });
  }

  get selected(): string | null {
    return this.route.page === "project" ? this.route.project : null;
  }

  get view(): ProjectView | null {
    return this.route.page === "project" ? this.route.view : null;
  }

  get project(): Project | null {
    return this.projects.find((project) => project.id === this.selected) ?? null;
  }

  get sandbox(): Sandbox | null {
    return this.selected === null ? null : (this.sandboxes.get(this.selected) ?? null);
  }

  get running(): number {
    return this.projects.filter((project) => project.session).length;
  }

  async begin(): Promise<void> {
    let setup = false;
    try {
      const hello = await this.backend.hello((event) => this.#take(event));
      this.automation = hello.automation;
      this.unusable = hello.problem;
      this.version = hello.version;
      this.settings.take(hello.settings);
      setup = hello.setup && !hello.problem;
    } catch (error) {
      this.unusable = asProblem(error);
    }
    await this.refresh();
    // How long a person waits for their projects: `cargo xtask bench window`.
    performance.mark("projects");
    this.ready = true;
    if (setup) this.go({ page: "setup" });
    else if (location.hash) this.#enter(parse(location.hash));
    // Unless something was to be shown already.
    else if (this.route.page === "projects") this.#enterLast();
  }

  /** The project that the last run showed, if it is there still. */
  #enterLast(): void {
    const last = parse(localStorage.getItem(KEPT.route) ?? "");
    if (last.page === "project" && this.projects.some(({ id, exists }) => id === last.project && exists)) this.go(last);
  }

  toggleSidebar(): void {
    this.sidebar = !this.sidebar;
    if (!NARROW.matches) localStorage.setItem(KEPT.sidebar, this.sidebar ? "shown" : "hidden");
  }

  async refresh(): Promise<void> {
    try {
      this.projects = await this.backend.projects();
    } catch (error) {
      this.problem = asProblem(error);
    }
    for (const { id, session } of this.projects) {
      if (session || this.sandboxes.has(id)) this.#sync(id, session);
    }
    this.blocked.keepOnly(new Set(this.projects.filter(({ session }) => session).map(({ id }) => id)));
    if (this.selected !== null && this.project === null) this.go({ page: "projects" });
  }

  go(route: Route): void {
    this.#enter(route);
    if (location.hash !== write(route)) location.hash = write(route);
  }

  /** Shows a project; one that runs is attached to at once. */
  select(id: string, view: ProjectView = "terminal"): void {
    this.go({ page: "project", project: id, view });
  }

  show(view: ProjectView): void {
    if (this.selected !== null) this.select(this.selected, view);
  }

  async showTab(tab: Tab): Promise<void> {
    const { sandbox } = this;
    if (!sandbox) return;
    sandbox.current = tab;
    this.show("terminal");
  }

  /** The find bar, for the terminal that is or was in sight. */
  async find(): Promise<void> {
    if (this.view !== "terminal") this.show("terminal");
    // The terminal takes the focus first.
    await tick();
    this.finding = this.sandbox?.current?.hasScreen ?? false;
  }

  /** The person looks at the terminal in sight. */
  look(): void {
    const tab = this.sandbox?.current;
    if (tab && this.#sees(tab)) tab.unread = false;
  }

  async chooseFolder(): Promise<void> {
    if (this.unusable) return;
    this.problem = null;
    try {
      const id = await this.backend.chooseFolder();
      if (id !== null) await this.#show(id);
    } catch (error) {
      this.problem = asProblem(error);
    }
  }

  async forget(id: string): Promise<void> {
    this.sandboxes.get(id)?.close();
    this.sandboxes.delete(id);
    await this.try(() => this.backend.forget(id));
    await this.refresh();
  }

  /** A program for the selected project: its first one is *Open in Sandbox*. */
  async open(start: Start, offline: boolean): Promise<void> {
    const { project } = this;
    if (!project || this.unusable) return;
    if (this.view !== "terminal") this.show("terminal");
    if (await this.of(project.id).open(start, offline)) await this.refresh();
  }

  /** The terminal in sight once more. */
  async again(start: Start, offline: boolean): Promise<void> {
    const tab = this.sandbox?.current;
    if (tab && (await this.sandbox?.again(tab, start, offline))) await this.refresh();
  }

  closeTab(tab: Tab): void {
    const { sandbox } = this;
    if (!sandbox) return;
    if (tab.phase.kind === "opening") void sandbox.cancel();
    else if (tab.live) this.asked = { kind: "closeTab", sandbox, tab };
    else sandbox.end(tab);
  }

  /** Answers whether it ended. */
  async stop(id: string): Promise<boolean> {
    const stopped = await this.try(() => this.backend.stop(id));
    if (stopped) this.sandboxes.get(id)?.close();
    await this.refresh();
    return stopped;
  }

  async setNetwork(id: string, connected: boolean): Promise<void> {
    await this.try(() => this.backend.setNetwork(id, connected));
    await this.refresh();
  }

  async openInternet(id: string, seconds: number): Promise<void> {
    await this.try(() => this.backend.openInternet(id, seconds));
    await this.refresh();
  }

  quit(): void {
    if (this.running > 0) this.asked = { kind: "quit", running: this.running };
    else void this.try(() => this.backend.quit(false));
  }

  async copy(text: string): Promise<void> {
    try {
      await this.backend.copy(text);
      const count = [...text].length;
      this.say(`Copied ${count} ${count === 1 ? "character" : "characters"}`);
    } catch (error) {
      this.say(asProblem(error).title);
    }
  }

  async openLink(url: string): Promise<void> {
    try {
      await this.backend.openLink(url);
    } catch (error) {
      this.say(asProblem(error).title);
    }
  }

  /** Files that were dropped are for the terminal in sight. */
  dropFiles(files: DroppedFile[]): void {
    const tab = this.view === "terminal" && !this.asked ? this.sandbox?.current : null;
    if (tab?.phase.kind !== "live") {
      this.say("A file can be dropped on a terminal that runs; a folder anywhere");
      return;
    }
    const inside = files.flatMap((file) => file.inside ?? []);
    if (inside.length > 0) tab.paste(typedPaths(inside));
    const names = files.filter((file) => file.inside === null).map(({ name }) => name);
    if (names.length > 0) this.asked = { kind: "copyFiles", names, tab };
  }

  async copyFiles(tab: Tab): Promise<void> {
    await this.#type(tab, async () => await this.backend.copyDropped(tab.project));
  }

  /** The clipboard has no text: it may have a picture. */
  async pasteImage(tab: Tab): Promise<void> {
    if (tab.phase.kind !== "live") return;
    await this.#type(tab, async () => {
      const path = await this.backend.pasteImage(tab.project);
      if (path) this.say(`The picture is ${path} in the sandbox`);
      return path ? [path] : [];
    });
  }

  async #type(tab: Tab, paths: () => Promise<string[]>): Promise<void> {
    try {
      const made = await paths();
      if (made.length > 0) tab.paste(typedPaths(made));
    } catch (error) {
      const { title, why } = asProblem(error);
      this.say(`${title} ${why}`);
    }
  }

  say(text: string): void {
    this.toast = text;
    clearTimeout(this.#toastTimer);
    this.#toastTimer = setTimeout(() => (this.toast = null), TOAST_MS);
  }

  /** What fails takes the place of the page. Answers whether it did not. */
  async try(act: () => Promise<void>): Promise<boolean> {
    this.problem = null;
    try {
      await act();
      return true;
    } catch (error) {
      this.problem = asProblem(error);
      return false;
    }
  }

  of(id: string): Sandbox {
    let sandbox = this.sandboxes.get(id);
    if (!sandbox) {
      sandbox = new Sandbox(this.backend, id);
      this.sandboxes.set(id, sandbox);
    }
    return sandbox;
  }

  #enter(route: Route): void {
    this.route = route;
    if (route.page === "project" || route.page === "projects") localStorage.setItem(KEPT.route, write(route));
    this.problem = null;
    this.finding = false;
    if (NARROW.matches) this.sidebar = false;
    if (route.page === "project" && route.view === "terminal" && this.project) void this.of(route.project).show();
  }

  async #show(id: string): Promise<void> {
    await this.refresh();
    this.select(id);
  }

  /** What the other side says of a project. What comes in sight by it, as a terminal that began elsewhere, is attached to. */
  #sync(id: string, session: Session | null): void {
    const sandbox = this.of(id);
    const before = sandbox.current;
    sandbox.sync(session, (tab) => this.#sees(tab));
    const inSight = sandbox === this.sandbox && this.view === "terminal";
    if (inSight && sandbox.current !== before && sandbox.current?.phase.kind === "waiting") void sandbox.show();
  }

  #sees(tab: Tab): boolean {
    return this.focused && this.view === "terminal" && this.sandbox?.current === tab;
  }

  #take(event: Event): void {
    switch (event.kind) {
      case "projects":
        void this.refresh();
        break;
      case "activity": {
        const session = this.projects.find(({ id }) => id === event.project)?.session;
        if (!session) break;
        session.activity = event.activity;
        session.terminals = event.terminals;
        this.#sync(event.project, session);
        break;
      }
      case "blocked":
        this.blocked.add(event);
        break;
      case "contrast":
        this.settings.desktopContrast(event.high);
        break;
      case "dragging":
        this.dragging = event.over ? (event.files ? "files" : "folder") : null;
        break;
      case "files":
        this.dropFiles(event.files);
        break;
      case "dropped":
        void this.#show(event.project);
        break;
      case "refused":
        this.problem = event;
        break;
      case "network":
        this.#changed(`network ${event.project}`);
        void this.blocked.lookAgain();
        break;
      case "review":
        this.#changed(`review ${event.project}`);
        break;
      case "hosts":
        this.#changed(`hosts ${event.level}`);
        void this.blocked.lookAgain();
        break;
      case "show":
        void this.refresh().then(() => this.go(routeOf(event.page, event.project)));
        break;
      case "quit":
        this.asked = { kind: "quit", running: event.running };
        break;
      case "settings":
        this.settings.take(event.settings);
        break;
      case "hides":
        this.asked = { kind: "tray" };
        break;
    }
  }

  #changed(what: string): void {
    this.changes.set(what, (this.changes.get(what) ?? 0) + 1);
  }
}

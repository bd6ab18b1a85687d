/** Everything that the page shows. */

import { SvelteMap } from "svelte/reactivity";
import { asProblem, type Backend, type Event, type Problem, type Project, type Start } from "../backend/backend";
import { BlockedHosts } from "./blocked.svelte";
import { Sandbox } from "./sandbox.svelte";

/** So long a passing message stays. */
const TOAST_MS = 4000;

export class WindowState {
  projects = $state<Project[]>([]);
  selected = $state<string | null>(null);
  /** The list was read once. */
  ready = $state(false);
  /** Nothing can be opened at all. */
  unusable = $state<Problem | null>(null);
  /** A folder that cannot be opened, a session that does not stop. */
  problem = $state<Problem | null>(null);
  sidebar = $state(true);
  toast = $state<string | null>(null);
  /** A folder is held over the window. */
  dragging = $state(false);
  automation = $state(false);
  readonly sandboxes = new SvelteMap<string, Sandbox>();
  readonly blocked: BlockedHosts;
  readonly backend: Backend;
  #toastTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(backend: Backend) {
    this.backend = backend;
    this.blocked = new BlockedHosts(backend);
  }

  get project(): Project | null {
    return this.projects.find((project) => project.id === this.selected) ?? null;
  }

  get sandbox(): Sandbox | null {
    return this.selected === null ? null : (this.sandboxes.get(this.selected) ?? null);
  }

  async begin(): Promise<void> {
    try {
      const hello = await this.backend.hello((event) => this.#take(event));
      this.automation = hello.automation;
      this.unusable = hello.problem;
    } catch (error) {
      this.unusable = asProblem(error);
    }
    await this.refresh();
    this.ready = true;
  }

  async refresh(): Promise<void> {
    try {
      this.projects = await this.backend.projects();
    } catch (error) {
      this.problem = asProblem(error);
    }
    if (this.project === null) this.selected = null;
  }

  /** Shows a project; one that runs is attached to at once. */
  select(id: string): void {
    this.selected = id;
    this.problem = null;
    const project = this.project;
    if (!project) return;
    const sandbox = this.#sandbox(id);
    if (project.session && sandbox.phase.kind === "closed") void this.open("show", false);
    else sandbox.focus();
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
    await this.backend.forget(id);
    await this.refresh();
  }

  /** *Open in Sandbox* for the selected project. */
  async open(start: Start, offline: boolean): Promise<void> {
    const project = this.project;
    if (!project) return;
    const opened = await this.#sandbox(project.id).open(start, offline);
    if (opened) await this.refresh();
  }

  async stop(id: string): Promise<void> {
    this.problem = null;
    try {
      await this.backend.stop(id);
      this.sandboxes.get(id)?.close();
    } catch (error) {
      this.problem = asProblem(error);
    }
    await this.refresh();
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

  say(text: string): void {
    this.toast = text;
    clearTimeout(this.#toastTimer);
    this.#toastTimer = setTimeout(() => (this.toast = null), TOAST_MS);
  }

  #sandbox(id: string): Sandbox {
    let sandbox = this.sandboxes.get(id);
    if (!sandbox) {
      sandbox = new Sandbox(this.backend, id);
      this.sandboxes.set(id, sandbox);
    }
    return sandbox;
  }

  async #show(id: string): Promise<void> {
    await this.refresh();
    this.select(id);
  }

  #take(event: Event): void {
    switch (event.kind) {
      case "projects":
        void this.refresh();
        break;
      case "activity": {
        const project = this.projects.find(({ id }) => id === event.project);
        if (project?.session) project.session.activity = event.activity;
        break;
      }
      case "blocked":
        this.blocked.add(event);
        break;
      case "dragging":
        this.dragging = event.over;
        break;
      case "dropped":
        void this.#show(event.project);
        break;
      case "refused":
        this.problem = event;
        break;
    }
  }
}

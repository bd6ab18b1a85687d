/** One project in the window: its terminals, and what is being opened. */

import { tick } from "svelte";
import { asProblem, type Backend, type Session, type Start, type TabKind } from "../backend/backend";
import { Opening } from "./opening.svelte";
import { Tab } from "./tab.svelte";

const CANCELLED = "RCC-E002";

export class Sandbox {
  tabs = $state.raw<Tab[]>([]);
  current = $state.raw<Tab | null>(null);
  /** The last opening; its steps stay while an error is shown. */
  opening = $state.raw<Opening | null>(null);
  /** What the person should know of it, until dismissed. */
  notes = $state<string[]>([]);
  readonly project: string;
  readonly #backend: Backend;
  /** Openings go one after the other, as the other side does them. */
  #line: Promise<unknown> = Promise.resolve();
  /** Terminals that ended and were put away here. */
  readonly #gone = new Set<number>();

  constructor(backend: Backend, project: string) {
    this.#backend = backend;
    this.project = project;
  }

  /** In one word, for the list of projects. */
  get phase(): "closed" | "opening" | "failed" | "open" {
    if (this.tabs.length === 0) return "closed";
    if (this.opening && !this.opening.over && this.tabs.length === 1) return "opening";
    return this.tabs.every((tab) => tab.phase.kind === "failed") ? "failed" : "open";
  }

  /** Whether every terminal went with its sandbox. */
  get lost(): boolean {
    return this.tabs.length > 0 && this.tabs.every((tab) => tab.phase.kind === "lost");
  }

  get unread(): boolean {
    return this.tabs.some((tab) => tab.unread);
  }

  /** The other side's list of terminals; `seen` says whether a tab is looked at. */
  sync(session: Session | null, seen: (tab: Tab) => boolean): void {
    const listed = session?.terminals ?? [];
    const gone = (tab: Tab) => tab.phase.kind === "waiting" && !listed.some(({ number }) => number === tab.number);
    if (this.tabs.some(gone)) this.#keep(this.tabs.filter((tab) => !gone(tab)));
    // What is being opened has no number yet.
    const opening = this.opening !== null && !this.opening.over;
    for (const { number, kind, activity, exit } of listed) {
      let tab = this.tabs.find((each) => each.number === number);
      if (!tab) {
        if (opening || exit !== null || this.#gone.has(number)) continue;
        tab = this.#add(kind);
        tab.number = number;
        tab.phase = { kind: "waiting" };
      }
      tab.took(activity, seen(tab));
    }
    if (!this.current) this.current = this.tabs.find((tab) => tab.kind === "claude") ?? this.tabs[0] ?? null;
  }

  /** Shows the current terminal; its program is attached to when it was not yet. */
  async show(): Promise<void> {
    const tab = this.current;
    if (tab?.phase.kind === "waiting") await this.#run(tab, "show", false);
    else this.focus();
  }

  async select(tab: Tab): Promise<void> {
    this.current = tab;
    await this.show();
  }

  /** A program in a terminal of its own. Answers whether it is there. */
  async open(start: Start, offline: boolean): Promise<boolean> {
    if (this.phase === "opening") return false;
    if (this.lost || this.phase === "failed") this.close();
    const tab = this.#add(start === "shell" ? "shell" : start === "login" ? "other" : "claude");
    this.current = tab;
    return this.#run(tab, start, offline);
  }

  /** The same tab again, after its program ended or could not be started. */
  async again(tab: Tab, start: Start, offline: boolean): Promise<boolean> {
    if (tab.number !== null) this.#forget(tab.number);
    tab.number = null;
    return this.#run(tab, start, offline);
  }

  async cancel(): Promise<void> {
    if (!this.opening) return;
    this.opening.cancelling = true;
    await this.#backend.cancelOpening(this.project);
  }

  /** Ends the program of a tab and takes it away. */
  end(tab: Tab): void {
    if (tab.number !== null) this.#forget(tab.number);
    this.remove(tab);
  }

  /** Takes a tab away; the next one is in sight then. */
  remove(tab: Tab): void {
    tab.drop();
    const at = this.tabs.indexOf(tab);
    this.#keep(this.tabs.filter((each) => each !== tab));
    if (!this.current) this.current = this.tabs[Math.min(at, this.tabs.length - 1)] ?? null;
    void this.show();
  }

  /** The person closed all that was shown of it. */
  close(): void {
    for (const tab of this.tabs) tab.drop();
    this.tabs = [];
    this.current = null;
  }

  focus(): void {
    // What was hidden a moment ago cannot take the focus.
    void tick().then(() => this.current?.focus());
  }

  text(): string {
    return this.current?.view?.text() ?? "";
  }

  #run(tab: Tab, start: Start, offline: boolean): Promise<boolean> {
    const before = tab.phase;
    tab.phase = { kind: "opening" };
    const run = this.#line.then(async () => {
      if (!this.tabs.includes(tab)) return false;
      const opening = new Opening();
      this.opening = opening;
      try {
        const opened = await tab.open(start, offline, (progress) => opening.take(progress));
        opening.end();
        this.#gone.delete(opened.tab);
        this.sync(opened.session, (each) => each === this.current);
        if (tab === this.current) this.focus();
        return true;
      } catch (error) {
        opening.end();
        const problem = asProblem(error);
        if (problem.code !== CANCELLED) tab.phase = { kind: "failed", problem };
        else if (before.kind === "opening" || before.kind === "failed") this.remove(tab);
        else tab.phase = before;
        return false;
      } finally {
        if (opening.notes.length > 0) this.notes = opening.notes;
      }
    });
    this.#line = run.catch(() => undefined);
    return run;
  }

  #forget(number: number): void {
    this.#gone.add(number);
    // It may be gone there, too.
    void this.#backend.endTerminal(this.project, number).catch(() => undefined);
  }

  #add(kind: TabKind): Tab {
    const same = this.tabs.filter((tab) => tab.kind === kind).map((tab) => Number(/\d+$/.exec(tab.label)?.[0] ?? "1"));
    let ordinal = 1;
    while (same.includes(ordinal)) ordinal += 1;
    const tab = new Tab(this.#backend, this.project, kind, ordinal);
    this.tabs = [...this.tabs, tab];
    return tab;
  }

  #keep(tabs: Tab[]): void {
    this.tabs = tabs;
    if (this.current && !tabs.includes(this.current)) this.current = null;
  }
}

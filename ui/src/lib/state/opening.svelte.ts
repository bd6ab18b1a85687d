/** The steps of one opening, as they are told. */

import type { Progress, StepWord } from "../backend/backend";

/** A step that is quicker than this is never shown (PRODUCT 2.4). */
const QUICK_MS = 300;

/** After so long something is shown, even if no single step is slow. */
const SLOW_MS = 1000;

export interface StepView {
  step: StepWord;
  state: "running" | "done" | "failed";
  shown: boolean;
  /** Milliseconds, once it is done. */
  ms: number | null;
  done: number;
  total: number | null;
  text: string;
}

export class Opening {
  steps = $state<StepView[]>([]);
  notes = $state<string[]>([]);
  /** It takes long enough to be shown. */
  slow = $state(false);
  cancelling = $state(false);
  over = $state(false);
  readonly #timer = setTimeout(() => (this.slow = true), SLOW_MS);

  take(progress: Progress): void {
    if (progress.kind === "note") {
      if (!this.notes.includes(progress.text)) this.notes.push(progress.text);
      return;
    }
    const view = this.#step(progress.step);
    switch (progress.kind) {
      case "begun":
        setTimeout(() => {
          if (view.state === "running") view.shown = true;
        }, QUICK_MS);
        break;
      case "amount":
        view.done = progress.done;
        view.total = progress.total;
        break;
      case "doing":
        view.text = progress.text;
        break;
      case "done":
        view.state = "done";
        view.ms = progress.ms;
        break;
      case "failed":
        view.state = "failed";
        view.shown = true;
        break;
    }
  }

  end(): void {
    clearTimeout(this.#timer);
    this.over = true;
    // What ran beside the step that failed was broken off.
    this.steps = this.steps.filter((step) => step.state !== "running");
  }

  #step(step: StepWord): StepView {
    let at = this.steps.findIndex((view) => view.step === step);
    if (at < 0) {
      const view: StepView = { step, state: "running", shown: false, ms: null, done: 0, total: null, text: "" };
      at = this.steps.push(view) - 1;
    }
    // Through the list, so that changes are seen by the page.
    return this.steps[at] as StepView;
  }
}

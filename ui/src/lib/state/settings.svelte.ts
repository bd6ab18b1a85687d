/** Settings of the window, and what follows from them at once. */

import { asProblem, type Backend, type Problem, type WindowSettings } from "../backend/backend";

export const SMALLEST_FONT = 8;
export const LARGEST_FONT = 32;
const USUAL_FONT = 13;

const DEFAULTS: WindowSettings = {
  theme: "system",
  contrast: "system",
  fontSize: USUAL_FONT,
  programsMayCopy: true,
  scrollback: false,
  notifyNeedsYou: true,
  notifyBlocked: true,
  keepLogDays: 7,
  claudeTelemetry: false,
  closeHides: true,
};

export class Settings {
  values = $state.raw<WindowSettings>(DEFAULTS);
  problem = $state.raw<Problem | null>(null);
  /** Whether the window is dark now. */
  dark = $state(false);
  /** Whether lines and letters stand out more now. */
  highContrast = $state(false);
  readonly #desktop = matchMedia("(prefers-color-scheme: dark)");
  readonly #desktopContrast = matchMedia("(prefers-contrast: more)");
  /** The desktop's portal says so. */
  #portalContrast = false;
  readonly #backend: Backend;

  constructor(backend: Backend) {
    this.#backend = backend;
    for (const wish of [this.#desktop, this.#desktopContrast]) wish.addEventListener("change", () => this.#show());
    this.#show();
  }

  /** They came from the other side. */
  take(values: WindowSettings): void {
    this.values = values;
    this.#show();
  }

  desktopContrast(high: boolean): void {
    this.#portalContrast = high;
    this.#show();
  }

  async set(change: Partial<WindowSettings>): Promise<void> {
    const before = this.values;
    this.take({ ...before, ...change });
    this.problem = null;
    try {
      await this.#backend.saveSettings(this.values);
    } catch (error) {
      this.problem = asProblem(error);
      this.take(before);
    }
  }

  /** One pixel more or less; 0: the usual size. */
  resizeFont(by: number): void {
    const size = by === 0 ? USUAL_FONT : this.values.fontSize + by;
    const fontSize = Math.min(Math.max(size, SMALLEST_FONT), LARGEST_FONT);
    if (fontSize !== this.values.fontSize) void this.set({ fontSize });
  }

  #show(): void {
    const { theme, contrast } = this.values;
    this.highContrast = contrast === "high" || this.#desktopContrast.matches || this.#portalContrast;
    // The colours of app.css follow.
    document.documentElement.dataset.theme = theme;
    document.documentElement.dataset.contrast = this.highContrast ? "high" : "usual";
    this.dark = theme === "system" ? this.#desktop.matches : theme === "dark";
  }
}

/** One xterm.js in the page. Knows nothing of sandboxes. */

import { FitAddon } from "@xterm/addon-fit";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { Terminal } from "@xterm/xterm";
import { COPY_WINDOW_MS, copiedText } from "./clipboard";
import { leadSpanStyles, withSheets } from "./policy";
import { dark, light } from "./themes";

export interface ViewEvents {
  typed(bytes: Uint8Array): void;
  resized(columns: number, rows: number): void;
  /** The person or, within the rules, the program copied. */
  copied(text: string): void;
  pasted(text: string, bracketed: boolean): void;
  /** A link of the web was opened by Ctrl+click. */
  link(url: string): void;
  /** The pointer is over a link, or over none. */
  hovered(url: string | null): void;
}

const SCROLLBACK_LINES = 5000;

export class TerminalView {
  readonly #terminal: Terminal;
  readonly #fit = new FitAddon();
  readonly #events: ViewEvents;
  readonly #undo: (() => void)[] = [];
  readonly #encoder = new TextEncoder();
  readonly #dark = matchMedia("(prefers-color-scheme: dark)");
  /** Asked for by the program: it wants to hear of light and dark (mode 2031). */
  #tellsScheme = false;
  #lastTouch = -Infinity;

  constructor(element: HTMLElement, label: string, events: ViewEvents) {
    this.#events = events;
    leadSpanStyles();
    this.#terminal = new Terminal({
      allowProposedApi: true,
      cursorBlink: false,
      fontFamily: '"DejaVu Sans Mono", "Noto Sans Mono", "Liberation Mono", ui-monospace, monospace',
      fontSize: 14,
      // Programs choose colours for a background that they guess.
      minimumContrastRatio: 4.5,
      scrollback: SCROLLBACK_LINES,
      theme: this.#dark.matches ? dark : light,
      linkHandler: {
        activate: (event, url) => this.#open(event, url),
        hover: (_event, url) => this.#events.hovered(webLink(url)),
        leave: () => this.#events.hovered(null),
      },
    });
    this.#terminal.loadAddon(this.#fit);
    this.#terminal.loadAddon(
      new WebLinksAddon((event, url) => this.#open(event, url), {
        hover: (_event, url) => this.#events.hovered(webLink(url)),
        leave: () => this.#events.hovered(null),
      }),
    );
    this.#undo.push(withSheets(() => this.#terminal.open(element)));
    this.#terminal.textarea?.setAttribute("aria-label", label);
    this.fit();
    this.#listen(element);
    this.#answer();
  }

  get columns(): number {
    return this.#terminal.cols;
  }

  get rows(): number {
    return this.#terminal.rows;
  }

  write(bytes: Uint8Array, drawn: () => void): void {
    this.#terminal.write(bytes, drawn);
  }

  /** Forgets everything, for another program. */
  reset(): void {
    this.#terminal.reset();
    this.#tellsScheme = false;
  }

  focus(): void {
    this.#terminal.focus();
  }

  paste(text: string): void {
    this.#terminal.paste(text);
  }

  copySelection(): void {
    const text = this.#terminal.getSelection();
    if (text) this.#events.copied(text);
  }

  /** Fits columns and rows to the place; nothing while it is hidden. */
  fit(): void {
    const place = this.#terminal.element?.parentElement;
    if (place && place.clientWidth > 0 && place.clientHeight > 0) this.#fit.fit();
  }

  /** Every line, for tests. */
  text(): string {
    const buffer = this.#terminal.buffer.active;
    const lines = Array.from({ length: buffer.length }, (_, y) => buffer.getLine(y)?.translateToString(true));
    return lines.join("\n").trimEnd();
  }

  dispose(): void {
    for (const undo of this.#undo.splice(0)) undo();
    this.#terminal.dispose();
  }

  #listen(element: HTMLElement): void {
    const events = new AbortController();
    const { signal } = events;
    this.#undo.push(() => events.abort());
    const touched = () => {
      this.#lastTouch = performance.now();
    };
    element.addEventListener("keydown", touched, { signal, capture: true });
    element.addEventListener("mouseup", touched, { signal, capture: true });
    element.addEventListener(
      "paste",
      (event) => {
        event.preventDefault();
        event.stopPropagation();
        const text = event.clipboardData?.getData("text/plain");
        if (text) this.#events.pasted(text, this.#terminal.modes.bracketedPasteMode);
      },
      { signal, capture: true },
    );
    this.#dark.addEventListener("change", () => this.#followScheme(), { signal });
    const size = new ResizeObserver(() => this.fit());
    size.observe(element);
    this.#undo.push(() => size.disconnect());

    this.#terminal.onData((text) => this.#events.typed(this.#encoder.encode(text)));
    this.#terminal.onBinary((text) => {
      this.#events.typed(Uint8Array.from(text, (letter) => letter.charCodeAt(0)));
    });
    this.#terminal.onResize(({ cols, rows }) => this.#events.resized(cols, rows));
    this.#terminal.attachCustomKeyEventHandler((event) => !isOurs(event));
  }

  /** Sequences that xterm.js leaves to its user. */
  #answer(): void {
    const parser = this.#terminal.parser;
    // OSC 52: a program copies, only while a person is at this very terminal. It never reads.
    parser.registerOscHandler(52, (payload) => {
      const focused = document.hasFocus() && this.#terminal.textarea === document.activeElement;
      const recent = performance.now() - this.#lastTouch <= COPY_WINDOW_MS;
      const text = focused && recent ? copiedText(payload) : null;
      if (text) this.#events.copied(text);
      return true;
    });
    const scheme = (on: boolean) => (parameters: (number | number[])[]) => {
      if (parameters.includes(2031)) this.#tellsScheme = on;
      // The others of the same sequence are xterm's.
      return false;
    };
    parser.registerCsiHandler({ prefix: "?", final: "h" }, scheme(true));
    parser.registerCsiHandler({ prefix: "?", final: "l" }, scheme(false));
    parser.registerCsiHandler({ prefix: "?", final: "n" }, (parameters) => {
      if (parameters[0] !== 996) return false;
      this.#tellScheme();
      return true;
    });
  }

  #followScheme(): void {
    this.#terminal.options.theme = this.#dark.matches ? dark : light;
    if (this.#tellsScheme) this.#tellScheme();
  }

  #tellScheme(): void {
    this.#events.typed(this.#encoder.encode(`\x1b[?997;${this.#dark.matches ? 1 : 2}n`));
  }

  #open(event: MouseEvent, url: string): void {
    const link = webLink(url);
    if (link && event.ctrlKey) this.#events.link(link);
  }
}

/** The link as it will be opened, if it is one of the web. */
export function webLink(text: string): string | null {
  const url = URL.parse(text);
  return url && (url.protocol === "https:" || url.protocol === "http:") && url.hostname ? url.href : null;
}

/** Combinations that the window keeps from a focused terminal (PRODUCT 2.8). */
export function isOurs(event: KeyboardEvent): boolean {
  if (event.ctrlKey && event.shiftKey && !event.altKey) return "ACOV".includes(event.key.toUpperCase());
  return event.key === "F6" || event.key === "F9";
}

/** One xterm.js in the page. Knows nothing of sandboxes. */

import { FitAddon } from "@xterm/addon-fit";
import { type ISearchOptions, SearchAddon } from "@xterm/addon-search";
import { Unicode11Addon } from "@xterm/addon-unicode11";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { Terminal } from "@xterm/xterm";
import { COPY_WINDOW_MS, copiedText } from "./clipboard";
import { isKept } from "./kept";
import { Pacing, type Taken } from "./pacing";
import { leadSpanStyles, withSheets } from "./policy";
import { contrastOf, FOUND_DARK, FOUND_LIGHT, themeOf } from "./themes";

export interface ViewEvents {
  typed(bytes: Uint8Array): void;
  resized(columns: number, rows: number): void;
  /** The person or, within the rules, the program copied. */
  copied(text: string): void;
  /** A program wanted to copy and was not let. */
  notCopied(): void;
  pasted(text: string, bracketed: boolean): void;
  /** What was pasted has no text. */
  pastedOther(): void;
  /** A link of the web was opened by Ctrl+click. */
  link(url: string): void;
  /** The pointer is over a link, or over none. */
  hovered(url: string | null): void;
  /** The wheel turned with Ctrl held: larger (1) or smaller (-1). */
  zoomed(by: number): void;
  /** Which match of how many is shown; -1 of many: too many to count. */
  found(at: number, count: number): void;
}

export interface Look {
  dark: boolean;
  highContrast: boolean;
  fontSize: number;
  programsMayCopy: boolean;
}

const SCROLLBACK_LINES = 5000;

export class TerminalView {
  readonly #terminal: Terminal;
  readonly #fit = new FitAddon();
  readonly #search = new SearchAddon({ highlightLimit: 1000 });
  readonly #pacing = new Pacing((bytes, written) => this.#terminal.write(bytes, written));
  readonly #events: ViewEvents;
  readonly #undo: (() => void)[] = [];
  readonly #encoder = new TextEncoder();
  #look: Look;
  /** Asked for by the program: it wants to hear of light and dark (mode 2031). */
  #tellsScheme = false;
  #lastTouch = -Infinity;

  constructor(element: HTMLElement, label: string, look: Look, events: ViewEvents) {
    this.#events = events;
    this.#look = look;
    leadSpanStyles();
    this.#terminal = new Terminal({
      allowProposedApi: true,
      cursorBlink: false,
      fontFamily: '"DejaVu Sans Mono", "Noto Sans Mono", "Liberation Mono", ui-monospace, monospace',
      fontSize: look.fontSize,
      minimumContrastRatio: contrastOf(look),
      scrollback: SCROLLBACK_LINES,
      theme: themeOf(look),
      linkHandler: {
        activate: (event, url) => this.#open(event, url),
        hover: (_event, url) => this.#events.hovered(webLink(url)),
        leave: () => this.#events.hovered(null),
      },
    });
    this.#terminal.loadAddon(this.#fit);
    this.#terminal.loadAddon(this.#search);
    // Emoji are two cells wide, as programs and PID 1's own screens count them.
    this.#terminal.loadAddon(new Unicode11Addon());
    this.#terminal.unicode.activeVersion = "11";
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

  /** The program draws the whole screen itself and keeps its own history. */
  get fullScreen(): boolean {
    return this.#terminal.buffer.active.type === "alternate";
  }

  /** Tells when `fullScreen` becomes another; answers what ends that. */
  onFullScreen(tell: (full: boolean) => void): () => void {
    const told = this.#terminal.buffer.onBufferChange(() => tell(this.fullScreen));
    return () => told.dispose();
  }

  /** Colours, letters and rules as the person set them. */
  dress(look: Look): void {
    const switched = look.dark !== this.#look.dark;
    const dressed = switched || look.highContrast !== this.#look.highContrast;
    const resized = look.fontSize !== this.#look.fontSize;
    this.#look = look;
    if (dressed) {
      this.#terminal.options.theme = themeOf(look);
      this.#terminal.options.minimumContrastRatio = contrastOf(look);
    }
    if (switched && this.#tellsScheme) this.#tellScheme();
    if (!resized) return;
    this.#terminal.options.fontSize = look.fontSize;
    this.fit();
  }

  find(text: string, backwards: boolean, typing: boolean): void {
    const options: ISearchOptions = { incremental: typing, decorations: this.#look.dark ? FOUND_DARK : FOUND_LIGHT };
    if (text === "") this.endFind();
    else if (backwards) this.#search.findPrevious(text, options);
    else this.#search.findNext(text, options);
  }

  endFind(): void {
    this.#search.clearDecorations();
    this.#terminal.clearSelection();
  }

  /** `taken` is told of each piece. */
  write(bytes: Uint8Array, taken: Taken): void {
    this.#pacing.push(bytes, taken);
  }

  /** Forgets everything, for another program. */
  reset(): void {
    this.#pacing.clear();
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

  /** The last lines in sight, for tests. */
  end(): string {
    const buffer = this.#terminal.buffer.active;
    const from = Math.max(0, buffer.baseY + buffer.cursorY - 2);
    const lines = Array.from({ length: 3 }, (_, y) => buffer.getLine(from + y)?.translateToString(true) ?? "");
    return lines.join("\n").trimEnd();
  }

  /** Once, when what was written next has been taken in; for measurements. */
  whenParsed(act: () => void): void {
    const once = this.#terminal.onWriteParsed(() => {
      once.dispose();
      act();
    });
  }

  dispose(): void {
    this.#pacing.clear();
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
        else this.#events.pastedOther();
      },
      { signal, capture: true },
    );
    element.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey || event.deltaY === 0) return;
        event.preventDefault();
        event.stopPropagation();
        this.#events.zoomed(event.deltaY < 0 ? 1 : -1);
      },
      { signal, capture: true, passive: false },
    );
    const size = new ResizeObserver(() => this.fit());
    size.observe(element);
    this.#undo.push(() => size.disconnect());

    this.#terminal.onData((text) => this.#events.typed(this.#encoder.encode(text)));
    this.#terminal.onBinary((text) => {
      this.#events.typed(Uint8Array.from(text, (letter) => letter.charCodeAt(0)));
    });
    this.#search.onDidChangeResults(({ resultIndex, resultCount }) => this.#events.found(resultIndex, resultCount));
    this.#terminal.onResize(({ cols, rows }) => this.#events.resized(cols, rows));
    this.#terminal.attachCustomKeyEventHandler((event) => !isKept(event));
  }

  /** Sequences that xterm.js leaves to its user. */
  #answer(): void {
    const parser = this.#terminal.parser;
    // OSC 52: a program copies, only while a person is at this very terminal. It never reads.
    parser.registerOscHandler(52, (payload) => {
      const focused = document.hasFocus() && this.#terminal.textarea === document.activeElement;
      const recent = performance.now() - this.#lastTouch <= COPY_WINDOW_MS;
      const text = focused && recent && this.#look.programsMayCopy ? copiedText(payload) : null;
      if (text) this.#events.copied(text);
      else this.#events.notCopied();
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

  #tellScheme(): void {
    this.#events.typed(this.#encoder.encode(`\x1b[?997;${this.#look.dark ? 1 : 2}n`));
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

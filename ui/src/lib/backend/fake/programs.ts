/**
 * Programs in pretended terminals. What can be typed there: `block HOST`, `flood`, `colours`,
 * `link`, `copy TEXT`, `copies COUNT`, `later TEXT`, `ask QUESTION`, `work`, `finish`, `raw JSON`, `exit CODE`.
 */

import type { Activity, Screen, StateWord, TabKind } from "../backend";
import { seconds } from "./examples";

const GREETING = [
  "\x1b[38;2;215;119;87m╭──────────────────────────────────────────╮\x1b[0m",
  "\x1b[38;2;215;119;87m│\x1b[0m \x1b[1m✻ A terminal that only pretends\x1b[0m          \x1b[38;2;215;119;87m│\x1b[0m",
  "\x1b[38;2;215;119;87m│\x1b[0m   \x1b[2m/workspace\x1b[0m                             \x1b[38;2;215;119;87m│\x1b[0m",
  "\x1b[38;2;215;119;87m╰──────────────────────────────────────────╯\x1b[0m",
  "",
].join("\r\n");

const CREDIT = 256 * 1024;

/** What is kept for somebody who looks later. */
const HISTORY = 64 * 1024;

/** What a program tells the window. */
export interface Told {
  blocked(program: Program, target: string): void;
  activity(program: Program, activity: Activity): void;
  ended(program: Program): void;
}

interface Attached {
  screen: Screen;
  /** Bytes that may still be sent. */
  credit: number;
}

export class Program {
  readonly number: number;
  readonly project: string;
  readonly kind: TabKind;
  exit: number | null = null;
  readonly #told: Told;
  readonly #attached = new Map<number, Attached>();
  #history = "";
  #line = "";
  #flooding = false;

  constructor(number: number, project: string, kind: TabKind, told: Told) {
    this.number = number;
    this.project = project;
    this.kind = kind;
    this.#told = told;
    this.say((kind === "claude" ? GREETING : "") + this.#prompt);
  }

  get #prompt(): string {
    return this.kind === "claude" ? "\x1b[1;34m>\x1b[0m " : "\x1b[1;32mworkspace\x1b[0m $ ";
  }

  attach(channel: number, screen: Screen): void {
    screen.write(new TextEncoder().encode(this.#history), false);
    if (this.exit !== null) screen.ended(this.exit);
    else this.#attached.set(channel, { screen, credit: CREDIT });
  }

  detach(channel: number): void {
    this.#attached.delete(channel);
  }

  credit(channel: number, bytes: number): void {
    const attached = this.#attached.get(channel);
    if (attached) attached.credit += bytes;
  }

  /** Nobody tells it how it ended. */
  lose(): void {
    this.#flooding = false;
    for (const { screen } of this.#attached.values()) screen.lost();
    this.#attached.clear();
  }

  end(code: number): void {
    this.exit = code;
    this.#flooding = false;
    this.#told.ended(this);
    for (const { screen } of this.#attached.values()) screen.ended(code);
    this.#attached.clear();
  }

  type(text: string): void {
    // The brackets of a paste, the mouse, and what the terminal answers are no text.
    for (const letter of text.replace(/\x1b\[[0-9;?<]*[A-Za-z~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)/g, "")) this.#key(letter);
  }

  #key(letter: string): void {
    if (letter === "\x03") {
      this.#flooding = false;
      this.#line = "";
      this.say(`^C\r\n${this.#prompt}`);
    } else if (letter === "\r") {
      const line = this.#line.trim();
      this.#line = "";
      this.say("\r\n");
      this.#run(line);
    } else if (letter === "\x7f") {
      if (this.#line) this.say("\b \b");
      this.#line = this.#line.slice(0, -1);
    } else if (letter >= " ") {
      this.#line += letter;
      this.say(letter);
    }
  }

  #run(line: string): void {
    const [command, ...rest] = line.split(" ");
    const argument = rest.join(" ");
    switch (command) {
      case "exit":
        this.end(Number(argument || "0"));
        return;
      case "flood":
        void this.#flood();
        return;
      case "block":
        this.#told.blocked(this, argument || "registry.example.org");
        break;
      case "ask":
        this.#state("needsYou", argument || "Which database?");
        break;
      case "work":
        this.#state("working", null);
        break;
      case "finish":
        this.#state("done", null);
        break;
      case "raw":
        this.say(JSON.parse(`"${argument}"`));
        break;
      case "colours":
        for (let n = 0; n < 16; n += 1) {
          this.say(`\x1b[38;5;${n}mcolour ${n}\x1b[0m  ${n % 4 === 3 ? "\r\n" : ""}`);
        }
        this.say("\x1b[38;2;10;200;120mtrue colour\x1b[0m ünïcödé 漢字 🙂\r\n");
        break;
      case "link":
        this.say("https://example.org/page and \x1b]8;;javascript:alert(1)\x07harmless\x1b]8;;\x07\r\n");
        break;
      case "copy":
        this.say(`\x1b]52;c;${btoa(argument)}\x07\x1b]52;c;?\x07`);
        break;
      case "copies":
        this.say(`\x1b]52;c;${btoa("x".repeat(Number(argument)))}\x07copied\r\n`);
        break;
      case "later":
        setTimeout(() => this.say(`\x1b]52;c;${btoa(argument)}\x07late`), 600);
        break;
      default:
        if (line) this.say(`You said: ${line}\r\n`);
    }
    this.say(this.#prompt);
  }

  #state(state: StateWord, detail: string | null): void {
    this.#told.activity(this, { state, detail, turns: 1, since: seconds() });
  }

  async #flood(): Promise<void> {
    this.#flooding = true;
    const bytes = new TextEncoder().encode("y\r\n".repeat(20_000));
    while (this.#flooding) {
      for (const attached of this.#attached.values()) {
        if (attached.credit <= 0) continue;
        attached.credit -= bytes.length;
        attached.screen.write(bytes, true);
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  say(text: string): void {
    this.#history = (this.#history + text).slice(-HISTORY);
    const bytes = new TextEncoder().encode(text);
    for (const attached of this.#attached.values()) {
      attached.credit -= bytes.length;
      attached.screen.write(bytes, true);
    }
  }
}

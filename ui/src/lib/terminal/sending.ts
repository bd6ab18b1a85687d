/** The two ways back to the program: what is typed, and credit for what was drawn. */

/** What a program may be ahead of the page when it is attached: `INITIAL_CREDIT` of `inside`. */
const AHEAD_AT_FIRST = 256 * 1024;

/** Bounds of that. The least is two pieces, so that one is on its way while one is drawn. */
const LEAST_AHEAD = 32 * 1024;
const MOST_AHEAD = 2 << 20;

/** Credit is given back in pieces of this size, or smaller ones for a program that is held close. */
const CREDIT_PIECE = 32 * 1024;

/**
 * How long output may wait to be drawn, in milliseconds. Below the first the page has nothing
 * to draw at times, above the second a key's echo is late: a frame of 60 Hz is 17 ms.
 */
const SHORT_WAIT = 20;
const LONG_WAIT = 40;

/** How long it is watched whether a program writes as much as it may, in milliseconds. */
const WATCHED = 200;

/** What may wait for a program that does not read, in bytes. */
const MAX_WAITING = 4 << 20;

const INTERRUPT = 3;

/** Sends in order, one request at a time; what is typed meanwhile goes together. */
export class Typing {
  #waiting: Uint8Array[] = [];
  #size = 0;
  #busy = false;
  #send: (bytes: Uint8Array) => Promise<void>;

  constructor(send: (bytes: Uint8Array) => Promise<void>) {
    this.#send = send;
  }

  type(bytes: Uint8Array): void {
    if (bytes.length === 0 || this.#size + bytes.length > MAX_WAITING) return;
    this.#waiting.push(bytes);
    this.#size += bytes.length;
    if (!this.#busy) void this.#drain();
  }

  async #drain(): Promise<void> {
    this.#busy = true;
    try {
      while (this.#waiting.length > 0) await this.#send(this.#next());
    } catch {
      // The terminal is gone, and its screen says so.
      this.#waiting = [];
      this.#size = 0;
    } finally {
      this.#busy = false;
    }
  }

  /** Ctrl+C goes alone: the sandbox lets it overtake what still waits there. */
  #next(): Uint8Array {
    const alone = (bytes: Uint8Array | undefined) => bytes?.length === 1 && bytes[0] === INTERRUPT;
    let end = 1;
    if (!alone(this.#waiting[0])) {
      while (end < this.#waiting.length && !alone(this.#waiting[end])) end += 1;
    }
    const pieces = this.#waiting.splice(0, end);
    const bytes = new Uint8Array(pieces.reduce((size, piece) => size + piece.length, 0));
    let at = 0;
    for (const piece of pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
    this.#size -= bytes.length;
    return bytes;
  }
}

/**
 * Collects credit, so that a key's echo needs no request of its own, and decides how far a
 * program may be ahead: further while it writes all that it may and the page waits for it,
 * less while its output waits for the page.
 */
export class Credit {
  #ahead = AHEAD_AT_FIRST;
  #owed = 0;
  /** Of the time that is watched: its begin, what was drawn in it, whether the last was full. */
  #begun = 0;
  #seen = 0;
  #full = false;
  #give: (bytes: number) => boolean;

  /** `give` answers whether somebody took it; else it is offered again. */
  constructor(give: (bytes: number) => boolean) {
    this.#give = give;
  }

  /** How far the program may be ahead, in bytes. */
  get ahead(): number {
    return this.#ahead;
  }

  /** `bytes` were drawn at `now`, after `waited` milliseconds in the page. */
  drawn(bytes: number, waited: number, now: number): void {
    const watched = now - this.#begun;
    if (watched >= WATCHED) {
      this.#full = (this.#seen / watched) * WATCHED >= this.#ahead;
      this.#begun = now;
      this.#seen = 0;
    }
    this.#seen += bytes;
    let ahead = this.#ahead;
    if (waited > LONG_WAIT) ahead = Math.max(LEAST_AHEAD, ahead - Math.ceil(bytes / 2));
    else if (waited < SHORT_WAIT && this.#full) ahead = Math.min(MOST_AHEAD, ahead + bytes);
    // What it may be ahead less is not given back.
    this.#owed += bytes + ahead - this.#ahead;
    this.#ahead = ahead;
    if (this.#owed < Math.min(CREDIT_PIECE, ahead / 4)) return;
    if (this.#give(this.#owed)) this.#owed = 0;
  }
}

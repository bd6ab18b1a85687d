/** The two ways back to the program: what is typed, and credit for what was drawn. */

/** Credit is given back in pieces of this size; a terminal holds 256 KiB. */
const CREDIT_PIECE = 32 * 1024;

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

/** Collects credit, so that a key's echo needs no request of its own. */
export class Credit {
  #owed = 0;
  #give: (bytes: number) => boolean;

  /** `give` answers whether somebody took it; else it is offered again. */
  constructor(give: (bytes: number) => boolean) {
    this.#give = give;
  }

  drawn(bytes: number): void {
    this.#owed += bytes;
    if (this.#owed < CREDIT_PIECE) return;
    if (this.#give(this.#owed)) this.#owed = 0;
  }
}

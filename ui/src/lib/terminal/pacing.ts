/** When output is taken in: in turns with drawing, so that neither takes all the time. */

/** Bytes that xterm.js takes in without a pause: it draws a megabyte of short lines in a second. */
const TAKEN_AT_ONCE = 16 * 1024;

/** More than this in `WATCHED` milliseconds is a flood: what programs draw for people is less. */
const FLOOD = 32 * 1024;
const WATCHED = 100;

/** Longest time to gather, whatever a frame took, in milliseconds: a flood is still to look alive. */
const LONGEST_GATHERING = 25;

/** A window that nobody sees draws no frames; output goes on after this, in milliseconds. */
const NO_FRAME = 100;

/** Told how many bytes were taken in, and how many milliseconds after their turn began. */
export type Taken = (bytes: number, waited: number) => void;

/**
 * Drawing a frame of new lines costs as much as taking in some hundred kilobytes of them, and
 * xterm.js draws one after whatever came. So in a flood, after each frame, what arrives is
 * gathered for as long as the frame took. Everything else never waits.
 */
export class Pacing {
  #waiting: { bytes: Uint8Array; taken: Taken }[] = [];
  #busy = false;
  /** Of the time that is watched: its begin, and the bytes in it. */
  #begun = 0;
  #seen = 0;
  readonly #write: (bytes: Uint8Array, written: () => void) => void;

  constructor(write: (bytes: Uint8Array, written: () => void) => void) {
    this.#write = write;
  }

  push(bytes: Uint8Array, taken: Taken): void {
    this.#waiting.push({ bytes, taken });
    if (!this.#busy) this.#turn();
  }

  /** Forgets what was not taken in. */
  clear(): void {
    this.#waiting = [];
  }

  /** Takes in all that is there, in pieces: between them the page can take a key. */
  #turn(): void {
    const begun = performance.now();
    if (begun - this.#begun > WATCHED) {
      this.#begun = begun;
      this.#seen = 0;
    }
    const all = this.#waiting.splice(0);
    for (const { bytes, taken } of all) {
      this.#seen += bytes.length;
      for (let start = 0; start < bytes.length; start += TAKEN_AT_ONCE) {
        const piece = bytes.subarray(start, start + TAKEN_AT_ONCE);
        this.#write(piece, () => taken(piece.length, performance.now() - begun));
      }
    }
    this.#busy = all.length > 0 && this.#seen > FLOOD;
    if (this.#busy) this.#write(new Uint8Array(), () => this.#gather());
  }

  /** Waits for the frame and as long again. */
  #gather(): void {
    let over = false;
    const end = (took: number) => {
      if (over) return;
      over = true;
      clearTimeout(unseen);
      setTimeout(() => this.#turn(), Math.min(took, LONGEST_GATHERING));
    };
    const unseen = setTimeout(() => end(0), NO_FRAME);
    requestAnimationFrame(() => {
      const begun = performance.now();
      const painted = new MessageChannel();
      painted.port1.onmessage = () => end(performance.now() - begun);
      painted.port2.postMessage(0);
    });
  }
}

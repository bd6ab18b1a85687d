/** Turns of taking in and drawing: without a page, with frames that the test makes. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { beforeEach, describe, mock, test } from "node:test";
import ts from "typescript";

const source = readFileSync(new URL("../src/lib/terminal/pacing.ts", import.meta.url), "utf8");
const options = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
const { outputText } = ts.transpileModule(source, { compilerOptions: options });
const { Pacing } = await import(`data:text/javascript,${encodeURIComponent(outputText)}`);

const KIB = 1024;
const bytes = (size, fill = 0) => new Uint8Array(size).fill(fill);

/** A terminal that takes in at once, a clock, and frames that come when the test says so. */
function stage() {
  const state = { now: 1000, written: [], frames: [], taken: [] };
  mock.method(performance, "now", () => state.now);
  globalThis.requestAnimationFrame = (frame) => state.frames.push(frame);
  globalThis.MessageChannel = class {
    port1 = { onmessage: null };
    port2 = { postMessage: () => state.frames.push(() => this.port1.onmessage()) };
  };
  const pacing = new Pacing((piece, written) => {
    if (piece.length > 0) state.written.push(piece);
    written();
  });
  return {
    state,
    pacing,
    push: (piece) => pacing.push(piece, (size, waited) => state.taken.push([size, waited])),
    /** The frame that was asked for takes so long. */
    paint: (ms) => {
      state.frames.shift()(state.now);
      state.now += ms;
      state.frames.shift()();
    },
    after: (ms) => {
      state.now += ms;
      mock.timers.tick(ms);
    },
    sizes: () => state.written.map((piece) => piece.length),
  };
}

describe("pacing", () => {
  beforeEach(() => {
    mock.reset();
    mock.timers.reset();
    mock.timers.enable({ apis: ["setTimeout"] });
  });

  test("what people type and programs draw for them never waits", () => {
    const { state, push, after, sizes } = stage();
    for (let n = 0; n < 50; n++) {
      push(bytes(3 * KIB));
      after(20);
      assert.equal(sizes().length, n + 1);
    }
    assert.equal(state.frames.length, 0);
  });

  test("a flood is gathered while a frame is drawn, and as long again", () => {
    const { state, push, paint, after, sizes } = stage();
    push(bytes(40 * KIB, 1));
    assert.deepEqual(sizes(), [16 * KIB, 16 * KIB, 8 * KIB], "in pieces");
    push(bytes(10, 2));
    paint(20);
    push(bytes(20 * KIB, 3));
    after(19);
    assert.equal(sizes().length, 3, "too early");
    after(1);
    assert.deepEqual(sizes().slice(3), [10, 16 * KIB, 4 * KIB]);
    assert.deepEqual(state.written.map((piece) => piece[0]), [1, 1, 1, 2, 3, 3], "in order");
    assert.equal(state.taken.reduce((sum, [size]) => sum + size, 0), 60 * KIB + 10);
    // Where nothing came meanwhile, the next does not wait.
    paint(20);
    after(20);
    push(bytes(1, 4));
    assert.equal(sizes().length, 7);
  });

  test("slow frames let it wait for a bounded time", () => {
    const { push, paint, after, sizes } = stage();
    push(bytes(33 * KIB));
    push(bytes(1));
    paint(400);
    after(25);
    assert.equal(sizes().length, 4);
  });

  test("where no frame is drawn it goes on", () => {
    const { state, push, after, sizes } = stage();
    push(bytes(33 * KIB));
    push(bytes(1));
    after(99);
    assert.equal(sizes().length, 3);
    after(1);
    after(0);
    assert.equal(sizes().length, 4);
    // The frame that comes late after all begins no turn of its own.
    push(bytes(40 * KIB));
    const before = sizes().length;
    push(bytes(5));
    for (const frame of state.frames.splice(0, 1)) frame(state.now);
    for (const frame of state.frames.splice(-1)) frame();
    after(0);
    assert.equal(sizes().length, before);
  });

  test("what was not taken in is forgotten with the program", () => {
    const { pacing, push, paint, after, sizes } = stage();
    push(bytes(33 * KIB, 1));
    push(bytes(9, 2));
    pacing.clear();
    paint(10);
    after(10);
    assert.equal(sizes().length, 3);
    push(bytes(7, 3));
    assert.equal(sizes().at(-1), 7);
  });
});

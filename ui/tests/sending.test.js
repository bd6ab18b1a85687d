/** How far a program may be ahead of the page: plain arithmetic, without a page. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import ts from "typescript";

const source = readFileSync(new URL("../src/lib/terminal/sending.ts", import.meta.url), "utf8");
const options = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
const { outputText } = ts.transpileModule(source, { compilerOptions: options });
const { Credit } = await import(`data:text/javascript,${encodeURIComponent(outputText)}`);

const AT_FIRST = 256 * 1024;
const PIECE = 16 * 1024;

/** A program with its credit, and a page that draws so many bytes in a millisecond. */
function flow() {
  const state = { given: 0, drawn: 0, now: 1000, takes: true };
  const credit = new Credit((bytes) => {
    if (state.takes) state.given += bytes;
    return state.takes;
  });
  const draw = (bytes, waited, rate) => {
    state.now += bytes / rate;
    state.drawn += bytes;
    credit.drawn(bytes, waited, state.now);
    // It never has more than it may be ahead, nor less by more than what is gathered.
    const ahead = AT_FIRST + state.given - state.drawn;
    if (state.takes) assert.ok(ahead <= credit.ahead && ahead > credit.ahead - 32 * 1024, `${ahead} of ${credit.ahead}`);
  };
  return { state, credit, draw };
}

describe("credit", () => {
  test("a page that waits lets a full flow go further ahead, up to a bound", () => {
    const { credit, draw } = flow();
    for (let n = 0; n < 300; n++) draw(PIECE, 5, 10_000);
    assert.ok(credit.ahead > 1 << 20, `${credit.ahead}`);
    for (let n = 0; n < 1000; n++) draw(PIECE, 5, 100_000);
    assert.equal(credit.ahead, 2 << 20);
  });

  test("a page that is late holds a flood close, down to a bound", () => {
    const { credit, draw } = flow();
    for (let n = 0; n < 25; n++) draw(PIECE, 200, 1_000);
    assert.ok(credit.ahead < 64 * 1024, `${credit.ahead}`);
    for (let n = 0; n < 100; n++) draw(PIECE, 200, 1_000);
    assert.equal(credit.ahead, 32 * 1024);
  });

  test("a program that writes little gets no further ahead, however long it does", () => {
    const { credit, draw } = flow();
    for (let n = 0; n < 10_000; n++) draw(200, 1, 10);
    assert.equal(credit.ahead, AT_FIRST);
  });

  test("between the two nothing changes", () => {
    const { credit, draw } = flow();
    for (let n = 0; n < 1000; n++) draw(PIECE, 30, 10_000);
    assert.equal(credit.ahead, AT_FIRST);
  });

  test("by chance: what was given never exceeds what is allowed", () => {
    const { credit, draw } = flow();
    let seed = 7;
    const dice = (below) => (seed = (seed * 1103515245 + 12345) % 2147483648) % below;
    for (let n = 0; n < 20_000; n++) draw(1 + dice(PIECE), dice(80), 1 + dice(20_000));
    assert.ok(credit.ahead >= 32 * 1024 && credit.ahead <= 2 << 20);
  });

  test("what nobody took is offered again, whole", () => {
    const { state, draw } = flow();
    state.takes = false;
    for (let n = 0; n < 5; n++) draw(PIECE, 30, 10_000);
    assert.equal(state.given, 0);
    state.takes = true;
    draw(PIECE, 30, 10_000);
    assert.equal(state.given, 6 * PIECE);
  });
});

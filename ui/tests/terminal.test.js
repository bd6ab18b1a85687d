import assert from "node:assert/strict";
import { describe } from "node:test";
import { button, calls, choose, on, opened, paste, row, run, terminalShows, terminalText } from "./page.js";

/** Claude of a project copies something by itself, and says so. */
const copyLate = (page, project) =>
  page.evaluate((id) => window.__rccFake.say(id, `\x1b]52;c;${btoa("other plan")}\x07late`), project);

describe("terminal", () => {
  on("open=warm", "ended: start again, resume", async (page) => {
    await opened(page);
    await run(page, "exit 1");
    await page.getByText("Claude ended (code 1).").waitFor();
    await button(page, "Resume Conversation").waitFor();
    await button(page, "Start Again").click();
    await page.getByText("Claude ended (code 1).").waitFor({ state: "detached" });
    await run(page, "again");
    await terminalShows(page, "You said: again");
  });

  on("open=warm", "stop asks, then the project is closed", async (page) => {
    await opened(page);
    await choose(page, "Project menu", /Stop Session/);
    await page.getByRole("dialog").getByText("The folder and the conversation are kept.").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await choose(page, "Project menu", /Stop Session/);
    await button(page, "Stop Session").click();
    await button(page, "Open in Sandbox").waitFor();
  });

  on("open=warm", "an endless flood: memory is bounded, Ctrl+C works at once (T2)", async (page) => {
    await opened(page);
    await run(page, "flood");
    await page.waitForFunction(() => window.__rccTerminalText().length > 2000);
    await page.waitForTimeout(1500);
    const begun = Date.now();
    await page.keyboard.press("Control+C");
    await page.waitForFunction(() => window.__rccTerminalText().trimEnd().endsWith(">"));
    assert.ok(Date.now() - begun < 5000, `${Date.now() - begun} ms`);
    await run(page, "after");
    await terminalShows(page, "You said: after");
  });

  on("open=warm", "a program copies only right after a key, and never reads (T1)", async (page) => {
    await opened(page);
    await run(page, "copy secret plan");
    await page.getByText("Copied 11 characters").waitFor();
    assert.deepEqual(await calls(page, "copy"), [["copy", "secret plan"]]);
    // The answer to a question would have been typed.
    assert.doesNotMatch(await terminalText(page), /]52|c2VjcmV0/);
    // The focus is elsewhere by then: dropped.
    await run(page, "ready");
    await terminalShows(page, "You said: ready");
    await row(page, "notes").focus();
    await copyLate(page, "0000000000000002");
    await terminalShows(page, "late");
    assert.match(await terminalText(page), /late\s*$/);
    assert.equal((await calls(page, "copy")).length, 1);
  });

  on("open=warm", "links: Ctrl+click and the web only (T1)", async (page) => {
    await opened(page);
    await run(page, "link");
    await terminalShows(page, "example.org/page and harmless");
    const line = page.locator(".xterm-rows > div", { hasText: /^https:\/\/example/ });
    const box = await line.boundingBox();
    const place = { x: box.x, y: box.y + box.height / 2 };
    await page.mouse.move(place.x + 60, place.y);
    await page.getByText("Ctrl+click opens https://example.org/page").waitFor();
    await page.mouse.click(place.x + 60, place.y);
    assert.deepEqual(await calls(page, "openLink"), []);
    await page.keyboard.down("Control");
    await page.mouse.click(place.x + 60, place.y);
    assert.deepEqual(await calls(page, "openLink"), [["openLink", "https://example.org/page"]]);
    // `harmless` hides a script.
    await page.mouse.move(place.x + 270, place.y);
    await page.mouse.click(place.x + 270, place.y);
    await page.keyboard.up("Control");
    assert.equal((await calls(page, "openLink")).length, 1);
  });

  on("open=warm", "pasting: lines are shown first, control characters never arrive", async (page) => {
    await opened(page);
    await paste(page, "plain");
    await terminalShows(page, "plain");
    await paste(page, "one\ntwo\u001b[31m");
    await page.getByRole("dialog").getByText("Paste this into the terminal?").waitFor();
    await page.getByText("A shell runs each of these 2 lines at once. Control characters were taken out of it.").waitFor();
    await button(page, "Paste as One Line").click();
    await terminalShows(page, "plainone two[31m");
    await page.waitForFunction(() => document.activeElement?.matches(".xterm-helper-textarea"));
    await paste(page, "never\nthis");
    await page.keyboard.press("Escape");
    await page.waitForTimeout(200);
    assert.doesNotMatch(await terminalText(page), /never/);
  });

  on("open=warm", "pasting long text asks, unless the program knows what a paste is", async (page) => {
    await opened(page);
    await paste(page, "x".repeat(5000));
    await terminalShows(page, "xxxx");
    await paste(page, "y".repeat(5001));
    await page.getByRole("dialog").getByText("It is 5,001 characters long.").waitFor();
    // Its own question: no key of the window gets past it.
    await page.keyboard.press("Control+K");
    assert.equal(await page.getByRole("dialog").count(), 1);
    await button(page, "Cancel").click();
    // Back to where the person was.
    await page.waitForFunction(() => document.activeElement?.matches(".xterm-helper-textarea"));
    await page.keyboard.press("Control+C");
    await run(page, "raw \\u001b[?2004hready\\r\\n");
    await page.waitForFunction(() => /^ready/m.test(window.__rccTerminalText()));
    await paste(page, "one\ntwo");
    const typed = () => calls(page, "write").then((all) => all.map(([, text]) => text).join(""));
    await page.waitForFunction(() => window.__rccFake.calls.some(([call, text]) => call === "write" && text.includes("\u001b[200~")));
    assert.ok((await typed()).includes("\u001b[200~one\rtwo\u001b[201~"));
    // The brackets themselves cannot be pasted.
    await paste(page, "three\u001b[201~\nfour");
    await page.getByRole("dialog").getByText("Control characters were taken out of it.").waitFor();
  });

  on("open=warm", "Ctrl+Shift+C copies what is marked; Shift marks where the program has the mouse", async (page) => {
    await opened(page);
    await run(page, "raw \\u001b[2J\\u001b[Hmarked words\\r\\n\\u001b[?1000h\\u001b[?1006h");
    await page.waitForFunction(() => /^marked words/m.test(window.__rccTerminalText()));
    const box = await page.locator(".xterm-rows > div").first().boundingBox();
    const y = box.y + box.height / 2;
    const drag = async () => {
      await page.mouse.move(box.x + 1, y);
      await page.mouse.down();
      await page.mouse.move(box.x + 300, y, { steps: 4 });
      await page.mouse.up();
    };
    await drag();
    await page.keyboard.press("Control+Shift+C");
    assert.deepEqual(await calls(page, "copy"), []);
    const mouse = (await calls(page, "write")).filter(([, text]) => text.includes("\u001b[<0;"));
    assert.ok(mouse.length > 0, "the program hears of the mouse");
    await page.keyboard.down("Shift");
    await drag();
    await page.keyboard.up("Shift");
    await page.keyboard.press("Control+Shift+C");
    await page.getByText("Copied 12 characters").waitFor();
    assert.deepEqual(await calls(page, "copy"), [["copy", "marked words"]]);
  });

  on("open=warm", "two seconds after a key a program copies no more (T1)", async (page) => {
    await opened(page);
    await run(page, "ready");
    await terminalShows(page, "You said: ready");
    const copies = () =>
      page.evaluate(() => window.__rccFake.say("0000000000000002", `\x1b]52;c;${btoa("words")}\x07`));
    await copies();
    await page.getByText("Copied 5 characters").waitFor();
    await page.waitForTimeout(2100);
    await copies();
    await page.waitForTimeout(200);
    assert.equal((await calls(page, "copy")).length, 1);
  });

  on("open=warm", "emoji are as wide as programs count them", async (page) => {
    await opened(page);
    // After each letter the terminal is asked for the cursor's column (DSR 6).
    for (const [letter, column] of [["✅", 3], ["🎉", 3], ["漢", 3], ["é", 2], ["e\\u0301", 2], ["⚠", 2]]) {
      await run(page, `raw \\r\\u001b[2K${letter}\\u001b[6n`);
      await page.waitForFunction(() => window.__rccFake.calls.some(([call, text]) => call === "write" && /\u001b\[\d+;\d+R/.test(text)));
      const answers = (await calls(page, "write")).map(([, text]) => /\u001b\[\d+;(\d+)R/.exec(text)?.[1]).filter(Boolean);
      assert.equal(Number(answers.at(-1)), column, letter);
      await page.evaluate(() => window.__rccFake.calls.splice(0));
    }
  });

  on("open=warm", "a program learns of light and dark, when it asks and when it changes", async (page) => {
    await opened(page);
    const typed = (text) =>
      page.waitForFunction((wanted) => window.__rccFake.calls.some(([call, said]) => call === "write" && said.includes(wanted)), text);
    // A question behind it is answered when the terminal has read it all.
    const read = async (output, scheme) => {
      await page.evaluate(() => window.__rccFake.calls.splice(0));
      await run(page, `raw ${output}\\u001b[?996n`);
      await typed(`\u001b[?997;${scheme}n`);
      await page.evaluate(() => window.__rccFake.calls.splice(0));
    };
    await run(page, "raw \\u001b[?996n");
    await typed("\u001b[?997;2n");
    await run(page, "raw \\u001b]11;?\\u0007");
    await typed("\u001b]11;rgb:ffff/ffff/ffff");
    await read("\\u001b[?2031h", 2);
    await page.emulateMedia({ colorScheme: "dark" });
    await typed("\u001b[?997;1n");
    await read("\\u001b[?2031l", 1);
    await page.emulateMedia({ colorScheme: "light" });
    await page.waitForTimeout(300);
    assert.deepEqual(await calls(page, "write"), []);
  }, { colorScheme: "light" });

  on("open=warm", "high contrast: by the desktop, by its portal, by choice", async (page) => {
    await opened(page);
    const contrast = () => page.evaluate(() => document.documentElement.dataset.contrast);
    const background = () => page.evaluate(() => getComputedStyle(document.querySelector(".xterm-viewport")).backgroundColor);
    assert.equal(await contrast(), "usual");
    const usual = await background();
    await page.emulateMedia({ contrast: "more" });
    await page.waitForFunction(() => document.documentElement.dataset.contrast === "high");
    await page.waitForFunction((old) => getComputedStyle(document.querySelector(".xterm-viewport")).backgroundColor !== old, usual);
    assert.equal(await background(), "rgb(0, 0, 0)");
    await page.emulateMedia({ contrast: "no-preference" });
    await page.waitForFunction(() => document.documentElement.dataset.contrast === "usual");
    await page.evaluate(() => window.__rccFake.tell({ kind: "contrast", high: true }));
    await page.waitForFunction(() => document.documentElement.dataset.contrast === "high");
    await page.evaluate(() => window.__rccFake.tell({ kind: "contrast", high: false }));
    await page.waitForFunction(() => document.documentElement.dataset.contrast === "usual");
    await page.evaluate(() => (location.hash = "#/settings/general"));
    await page.getByLabel("Contrast").selectOption("high");
    await page.waitForFunction(() => document.documentElement.dataset.contrast === "high");
    assert.equal((await calls(page, "saveSettings")).at(-1)[1].contrast, "high");
  }, { colorScheme: "dark" });

  on("open=warm", "24-bit colours under the policy, and the theme follows the desktop", async (page) => {
    await opened(page);
    await run(page, "colours");
    await terminalShows(page, "true colour");
    await page.waitForFunction(() =>
      [...document.querySelectorAll(".xterm-rows span")].some(
        (span) => span.textContent.includes("true") && getComputedStyle(span).color === "rgb(10, 200, 120)",
      ),
    );
    const colour = () => page.evaluate(() => getComputedStyle(document.querySelector(".xterm-rows")).color);
    const letters = await colour();
    const background = () => page.evaluate(() => getComputedStyle(document.querySelector(".xterm-viewport")).backgroundColor);
    const before = await background();
    await page.emulateMedia({ colorScheme: "light" });
    assert.notEqual(await background(), before);
    await page.waitForFunction(
      (old) => getComputedStyle(document.querySelector(".xterm-rows")).color !== old,
      letters,
    );
  }, { colorScheme: "dark" });

  on("open=warm", "the size follows the window, and the sidebar", async (page) => {
    await opened(page);
    const last = async () => (await calls(page, "resize")).at(-1)?.slice(2);
    await page.keyboard.press("F9");
    await page.waitForFunction(() => window.__rccFake.calls.some(([call]) => call === "resize"));
    const wide = await last();
    await page.setViewportSize({ width: 800, height: 560 });
    await page.waitForFunction((columns) => window.__rccFake.calls.at(-1)?.[2] < columns, wide[0]);
  });

  on("open=warm", "each project keeps its own terminal", async (page) => {
    await opened(page);
    await run(page, "in api");
    await row(page, "web-shop").click();
    await terminalShows(page, "pretends");
    assert.doesNotMatch(await terminalText(page), /in api/);
    await row(page, "api").click();
    await terminalShows(page, "You said: in api");
  });
});

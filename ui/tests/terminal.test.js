import assert from "node:assert/strict";
import { describe } from "node:test";
import { button, calls, choose, on, opened, row, run, terminalShows, terminalText } from "./page.js";

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
    assert.ok(Date.now() - begun < 1500, `${Date.now() - begun} ms`);
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
    await run(page, "later other plan");
    await row(page, "notes").focus();
    await terminalShows(page, "late");
    await page.waitForTimeout(700);
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
    const paste = (text) =>
      page.evaluate((what) => {
        const data = new DataTransfer();
        data.setData("text/plain", what);
        const event = new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
        document.querySelector(".xterm-helper-textarea").dispatchEvent(event);
      }, text);
    await paste("plain");
    await terminalShows(page, "plain");
    await paste("one\ntwo\u001b[31m");
    await page.getByRole("dialog").getByText("Paste this into the terminal?").waitFor();
    await page.getByText("A shell runs each of these 2 lines at once. Control characters were taken out of it.").waitFor();
    await button(page, "Paste as One Line").click();
    await terminalShows(page, "plainone two[31m");
    await paste("never\nthis");
    await page.keyboard.press("Escape");
    await page.waitForTimeout(200);
    assert.doesNotMatch(await terminalText(page), /never/);
  });

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

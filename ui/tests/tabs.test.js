import assert from "node:assert/strict";
import { describe } from "node:test";
import { button, calls, choose, on, opened, row, run, tab, tell, terminalShows, terminalText } from "./page.js";

const current = (page) => page.locator("nav button.tab[aria-current]").getAttribute("title");

describe("several terminals", () => {
  on("open=warm", "a shell beside Claude; each keeps its own screen while hidden", async (page) => {
    await opened(page);
    await run(page, "in claude");
    await choose(page, "New terminal", /New Shell/);
    await terminalShows(page, "workspace");
    await run(page, "in shell");
    await terminalShows(page, "You said: in shell");
    assert.doesNotMatch(await terminalText(page), /in claude/);
    await tab(page, "Claude").click();
    await terminalShows(page, "You said: in claude");
    await tab(page, "Shell 1").click();
    await terminalShows(page, "You said: in shell");
    // The focus went with it.
    await page.keyboard.type("on\n");
    await terminalShows(page, "You said: on");
  });

  on("open=warm&answer=late", "what is typed as soon as the program shows itself arrives, once", async (page) => {
    await row(page, "notes").click();
    await button(page, "Open in Sandbox").click();
    await terminalShows(page, "pretends");
    assert.equal((await calls(page, "write")).length, 0);
    await run(page, "early");
    await terminalShows(page, "You said: early");
    assert.equal((await terminalText(page)).split("You said").length, 2);
  });

  on("open=warm", "in a small window the tab of the terminal in sight is in sight", async (page) => {
    await opened(page, "web-shop");
    await page.keyboard.press("Control+Shift+T");
    await tab(page, "Shell 2").waitFor();
    await terminalShows(page, "workspace");
    const seen = (name) =>
      tab(page, name).evaluate((e) => {
        const [own, all] = [e.closest("li").getBoundingClientRect(), e.closest("ul").getBoundingClientRect()];
        return own.left >= all.left - 1 && own.right <= all.right + 1;
      });
    assert.ok(await seen("Shell 2"));
    await page.keyboard.press("Alt+1");
    for (let tries = 0; tries < 100 && !(await seen("Claude")); tries += 1) await page.waitForTimeout(50);
    assert.ok(await seen("Claude"));
  }, { viewport: { width: 800, height: 560 } });

  on("open=warm", "output of a hidden terminal is there when it is shown", async (page) => {
    await opened(page);
    await run(page, "later x");
    await page.keyboard.press("Control+Shift+T");
    await tab(page, "Shell 1").waitFor();
    await page.waitForTimeout(900);
    await page.keyboard.press("Alt+1");
    await terminalShows(page, "late");
    // And a hidden terminal copied nothing.
    assert.deepEqual(await calls(page, "copy"), []);
  });

  on("open=warm", "a terminal that begins elsewhere is attached to where it is in sight", async (page) => {
    await row(page, "notes").click();
    await button(page, "Open in Sandbox").waitFor();
    await page.evaluate(() => window.__rccFake.begin("0000000000000003"));
    await terminalShows(page, "pretends");
    await run(page, "hello");
    await terminalShows(page, "You said: hello");
  });

  on("open=warm", "terminals of a session that runs are there, and attached to when looked at", async (page) => {
    await opened(page, "web-shop");
    await tab(page, "Shell 1").waitFor();
    assert.equal((await calls(page, "open")).length, 1);
    await tab(page, "Shell 1").click();
    await terminalShows(page, "workspace");
    const [, [, request]] = await calls(page, "open");
    assert.deepEqual([request.start, request.terminal], ["show", 2]);
  });

  on("open=warm", "keys: new shell, new Claude, next, by number, close", async (page) => {
    await opened(page);
    await page.keyboard.press("Control+Shift+T");
    await tab(page, "Shell 1").waitFor();
    await terminalShows(page, "workspace");
    await page.keyboard.press("Control+Shift+N");
    await tab(page, "Claude 2").waitFor();
    await terminalShows(page, "pretends");
    await page.keyboard.press("Control+PageUp");
    assert.match(await current(page), /^Shell 1/);
    await page.keyboard.press("Control+PageDown");
    assert.match(await current(page), /^Claude 2/);
    await page.keyboard.press("Control+PageDown");
    assert.match(await current(page), /^Claude: /);
    await page.keyboard.press("Alt+2");
    assert.match(await current(page), /^Shell 1/);
    await page.keyboard.press("Control+Shift+W");
    await page.getByRole("dialog").getByText("Close Shell 1?").waitFor();
    await button(page, "Close").click();
    await tab(page, "Shell 1").waitFor({ state: "detached" });
    assert.equal((await calls(page, "endTerminal")).length, 1);
  });

  on("open=warm", "what is the program's stays the program's", async (page) => {
    await opened(page);
    const kept = () => page.evaluate(() => document.querySelectorAll("dialog").length);
    for (const keys of ["Control+K", "Control+Q", "Control+,", "Control+O", "Alt+ArrowLeft", "Control+W"]) {
      await page.keyboard.press(keys);
    }
    assert.equal(await kept(), 0);
    assert.match(await page.evaluate(() => location.hash), /^#\/p\//);
    // With Shift they are the window's.
    await page.keyboard.press("Control+Shift+K");
    await page.getByRole("combobox").waitFor();
  });

  on("open=warm", "an ended shell closes without a question; the last one leaves room for a new one", async (page) => {
    await opened(page);
    await page.keyboard.press("Control+Shift+T");
    await terminalShows(page, "workspace");
    await run(page, "exit 3");
    await page.getByText("The program ended (code 3).").waitFor();
    await page.keyboard.press("Control+Shift+W");
    await tab(page, "Shell 1").waitFor({ state: "detached" });
    assert.equal(await page.getByRole("dialog").count(), 0);
    await page.getByRole("button", { name: "Close Claude" }).click();
    await button(page, "Close").click();
    await page.getByText("No terminal is open.").waitFor();
    await button(page, "New Claude").click();
    await terminalShows(page, "pretends");
  });

  on("open=warm", "Claude ended: the tab says it, resume takes its place", async (page) => {
    await opened(page);
    await run(page, "exit 1");
    await tab(page, "Ended").waitFor();
    await button(page, "Resume Conversation").click();
    await terminalShows(page, "pretends");
    assert.equal(await page.locator("nav .terminals li").count(), 1);
    assert.equal((await calls(page, "open")).at(-1)[1].start, "resume");
  });

  on("open=warm", "states in words on tab and row; unread until it is looked at", async (page) => {
    await opened(page);
    await run(page, "ask Which colour?");
    await tab(page, "Needs you: Which colour?").waitFor();
    await row(page, "Needs you: Which colour?").waitFor();
    await run(page, "work");
    await tab(page, "Working").waitFor();
    await row(page, "notes").click();
    const done = { state: "done", detail: null, turns: 2, since: Math.floor(Date.now() / 1000) };
    const terminals = [{ number: 1, kind: "claude", activity: done, exit: null }];
    await tell(page, { kind: "activity", project: "0000000000000002", activity: done, terminals });
    await row(page, "api").getByText("unread").waitFor({ state: "attached" });
    assert.match(await row(page, "api").innerText(), /Finished just now/);
    await row(page, "api").click();
    await row(page, "api").getByText("unread").waitFor({ state: "detached" });
  });

  for (const [state, words] of [
    ["starting", "Starting…"], ["background", "Working in the background"], ["ended", "Ended"], ["trouble", "Out of memory"],
  ]) {
    on("open=warm", `the word for ${state}`, async (page) => {
      await opened(page);
      const activity = { state, detail: state === "trouble" ? "Out of memory" : null, turns: 1, since: 1 };
      const terminals = [{ number: 1, kind: "claude", activity, exit: null }];
      await tell(page, { kind: "activity", project: "0000000000000002", activity, terminals });
      await tab(page, words).waitFor();
      await row(page, words).waitFor();
    });
  }

  on("open=warm", "a terminal that cannot be started says why in its own tab", async (page) => {
    await opened(page);
    for (let n = 1; n <= 16; n += 1) {
      await page.keyboard.press("Control+Shift+T");
      await tab(page, `Shell ${n}`).waitFor();
    }
    await page.getByRole("alert").getByText("The terminal could not be started.").waitFor();
    await button(page, "Close").click();
    await tab(page, "Shell 16").waitFor({ state: "detached" });
    await terminalShows(page, "workspace");
  });

  on("open=warm", "the sandbox ended elsewhere: said, and resumed in one tab", async (page) => {
    await opened(page, "web-shop");
    await page.evaluate(() => window.__rccFake.lose("0000000000000001"));
    await page.getByText("The sandbox ended. The folder and the conversation are kept.").waitFor();
    await button(page, "Resume Conversation").click();
    await terminalShows(page, "pretends");
    assert.equal(await page.locator("nav .terminals li").count(), 1);
  });
});

describe("find and letters", () => {
  on("open=warm", "find goes through what was kept", async (page) => {
    await opened(page);
    await run(page, "colours");
    await terminalShows(page, "true colour");
    await page.keyboard.press("Control+Shift+F");
    await page.keyboard.type("colour 1");
    // 1 and 10 to 15.
    await page.getByText("7 of 7").waitFor();
    await page.keyboard.press("Enter");
    await page.getByText("1 of 7").waitFor();
    await page.keyboard.press("Shift+Enter");
    await page.getByText("7 of 7").waitFor();
    await page.keyboard.type("zzz");
    await page.getByText("Nothing found").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("searchbox", { name: "Find in the terminal" }).waitFor({ state: "detached" });
    await page.keyboard.type("typed\n");
    await terminalShows(page, "You said: typed");
  });

  on("open=warm", "a program with the whole screen keeps its own history", async (page) => {
    await opened(page);
    const itself = page.getByText("Claude keeps its history itself: Ctrl+O, then /");
    // The bar is open before the program takes the screen.
    await page.keyboard.press("Control+Shift+F");
    await page.getByRole("searchbox", { name: "Find in the terminal" }).waitFor();
    await run(page, "raw \\u001b[?1049h");
    await itself.waitFor();
    await page.getByRole("button", { name: "Close find" }).click();
    await itself.waitFor({ state: "detached" });
    await page.keyboard.press("Control+Shift+F");
    await itself.waitFor();
  });

  on("open=warm", "the wheel with Ctrl makes letters larger, and it is kept", async (page) => {
    await opened(page);
    const size = () => page.evaluate(() => getComputedStyle(document.querySelector(".xterm-rows")).fontSize);
    assert.equal(await size(), "13px");
    await page.locator(".xterm-screen").hover();
    await page.keyboard.down("Control");
    await page.mouse.wheel(0, -100);
    await page.keyboard.up("Control");
    await page.waitForFunction(() => getComputedStyle(document.querySelector(".xterm-rows")).fontSize === "14px");
    assert.equal((await calls(page, "saveSettings")).at(-1)[1].fontSize, 14);
  });

  on("speed=2", "closing a tab that is being opened cancels it", async (page) => {
    await row(page, "notes").click();
    await button(page, "Open in Sandbox").click();
    await page.getByRole("button", { name: /^Close Claude/ }).click();
    await button(page, "Open in Sandbox").waitFor();
    assert.equal(await page.getByRole("alert").count(), 0);
  });

  on("open=warm", "the window comes back as it was left", async (page) => {
    await row(page, "notes").click();
    await tab(page, "Network").click();
    await page.keyboard.press("F9");
    await page.goto(page.url().replace(/#.*/, ""));
    await page.getByRole("heading", { name: "notes", level: 1 }).waitFor();
    await page.getByText("Nothing has been reached or blocked yet.").or(page.getByText("api.anthropic.com")).first().waitFor();
    assert.equal(await page.getByRole("navigation", { name: "Projects" }).count(), 0);
  });
});

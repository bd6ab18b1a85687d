/** What a hostile program, host or folder tries with the window (THREATS T1 to T3). */

import assert from "node:assert/strict";
import { describe } from "node:test";
import { button, calls, on, opened, paste, row, run, tab, tell, terminalShows, terminalText } from "./page.js";

/** All that programs were sent. */
const typed = async (page) => (await calls(page, "write")).map(([, text]) => text).join("");

describe("T1: escape sequences", () => {
  for (const selection of ["c", "p", "s", "", "cps"]) {
    on("open=warm", `the clipboard is never read (${selection || "no"} selection)`, async (page) => {
      await opened(page);
      const line = `raw \\u001b]52;${selection};?\\u0007done`;
      await run(page, line);
      await page.waitForFunction(() => /^done/m.test(window.__rccTerminalText()));
      await page.waitForTimeout(100);
      // An answer would have been typed into the program.
      assert.equal(await typed(page), `${line}\r`);
      assert.deepEqual(await calls(page, "copy"), []);
    });
  }

  on("open=warm", "a copy above the cap is dropped, and counted", async (page) => {
    await opened(page);
    await run(page, "copies 1048577");
    await terminalShows(page, "copied");
    assert.deepEqual(await calls(page, "copy"), []);
    await run(page, "copies 1000");
    await page.getByText("Copied 1000 characters").waitFor();
    await page.evaluate(() => (location.hash = "#/settings/terminal"));
    await page.getByText("1 time a program tried to reach the clipboard").waitFor();
    // Off is off.
    await page.getByRole("switch", { name: "Programs may copy" }).click();
    await row(page, "api").click();
    await run(page, "copies 10");
    await page.waitForTimeout(150);
    assert.equal((await calls(page, "copy")).length, 1);
  });

  on("open=warm", "links of no other kind open, wherever they hide", async (page) => {
    await opened(page);
    const urls = ["javascript:alert(1)", "file:///etc/passwd", "data:text/html,x", "ssh://host", "javascript:https://x.example", "http://"];
    for (const url of urls) {
      await run(page, `raw \\u001b]8;;${url}\\u0007click\\u001b]8;;\\u0007\\r\\n`);
    }
    // All at once, and only when all are there: the rows are drawn anew at any time.
    const lines = () =>
      [...document.querySelectorAll(".xterm-rows > div")]
        .filter((row) => row.textContent.startsWith("click"))
        .map((row) => row.getBoundingClientRect().toJSON());
    let boxes = [];
    for (let turn = 0; turn < 100 && boxes.length < urls.length; turn++) {
      await page.waitForTimeout(50);
      boxes = await page.evaluate(lines);
    }
    assert.equal(boxes.length, urls.length);
    await page.keyboard.down("Control");
    for (const box of boxes) {
      await page.mouse.move(box.x + 10, box.y + box.height / 2);
      await page.mouse.click(box.x + 10, box.y + box.height / 2);
    }
    await page.keyboard.up("Control");
    assert.deepEqual(await calls(page, "openLink"), []);
  });

  on("open=warm", "titles, reports and strings change neither window nor input", async (page) => {
    await opened(page);
    const title = await page.title();
    // Title, title report, answerback, DECRQSS with a body, window operations.
    await run(page, "raw \\u001b]0;evil\\u0007\\u001b]2;evil\\u0007\\u001b[21t\\u0005\\u001bP$qevil\\u001b\\\\\\u001b[3;0;0t\\u001b[8;5;5tend");
    await page.waitForFunction(() => /^end/m.test(window.__rccTerminalText()));
    await page.waitForTimeout(100);
    assert.equal(await page.title(), title);
    // What was typed is the line itself; no answer repeats it.
    assert.equal((await typed(page)).split("evil").length, 4);
    await page.keyboard.press("Control+C");
    await run(page, "after");
    await terminalShows(page, "You said: after");
  });

  on("open=warm", "pasted control characters never arrive, bracketed or not", async (page) => {
    await opened(page);
    // Claude has brackets on: lines are no question then …
    await run(page, "raw \\u001b[?2004hready\\r\\n");
    await page.waitForFunction(() => /^ready/m.test(window.__rccTerminalText()));
    await paste(page, "two\nlines");
    await page.waitForTimeout(100);
    assert.equal(await page.getByRole("dialog").count(), 0);
    // … but the end of the brackets in the text is.
    await paste(page, "safe\u001b[201~rm -rf");
    await page.getByRole("dialog").getByText("Paste this into the terminal?").waitFor();
    assert.equal(await page.getByRole("dialog").locator("pre").innerText(), "safe[201~rm -rf");
    await button(page, "Cancel").click();
    assert.doesNotMatch(await terminalText(page), /rm -rf/);
  });
});

describe("T2: floods", () => {
  on("open=warm", "the page stays usable, Ctrl+C works at once, memory is flat", async (page) => {
    await opened(page);
    const session = await page.context().newCDPSession(page);
    const heap = async () => {
      await session.send("HeapProfiler.collectGarbage");
      return (await session.send("Runtime.getHeapUsage")).usedSize / 1e6;
    };
    await run(page, "flood");
    await page.waitForTimeout(1500);
    const before = await heap();
    // Another page can be looked at meanwhile, and a menu opened.
    const begun = Date.now();
    await tab(page, "Network").click();
    await page.getByText("api.anthropic.com").waitFor();
    assert.ok(Date.now() - begun < 5000, `${Date.now() - begun} ms`);
    await tab(page, "Claude").click();
    await page.waitForTimeout(4000);
    const after = await heap();
    assert.ok(after - before < 30, `${before} MB, then ${after} MB`);
    const pressed = Date.now();
    await page.keyboard.press("Control+C");
    await page.waitForFunction(() => window.__rccTerminalText().trimEnd().endsWith(">"));
    assert.ok(Date.now() - pressed < 5000, `${Date.now() - pressed} ms`);
  });

  on("open=warm&network=none", "a thousand blocked hosts leave one bar", async (page) => {
    await opened(page);
    await page.evaluate(() => {
      for (let n = 0; n < 1000; n += 1) {
        window.__rccFake.tell({
          kind: "blocked", project: "0000000000000002", target: `h${n}.example`, port: 0, protocol: "tcp", reason: "not-allowed",
        });
      }
    });
    await page.getByText("h999.example").waitFor();
    assert.equal(await page.getByRole("status", { name: "Blocked host" }).count(), 1);
    await page.keyboard.type("still here\n");
    await terminalShows(page, "You said: still here");
  });
});

describe("T3: hostile names are text", () => {
  const nothingRan = async (page) => {
    assert.equal(await page.locator("img, script:not([src]), main b").count(), 0);
    assert.equal(await page.evaluate(() => window.ran ?? 0), 0);
  };

  on("open=warm&projects=hostile&network=hostile", "folder, question, host, reason", async (page) => {
    await page.exposeFunction("alert", () => page.evaluate(() => (window.ran = 1)));
    await row(page, "onerror").click();
    await terminalShows(page, "pretends");
    await page.getByRole("heading", { level: 1, name: /<img src=x onerror=alert\(1\)>/ }).waitFor();
    await page.locator("header").getByText("Needs you: <script>alert(2)</script> {@html x}").waitFor();
    await tab(page, "Network").click();
    await page.getByText("<img/src=x/onerror=alert(3)>").waitFor();
    await tab(page, "Settings").click();
    await page.getByText(/Settings of <img/).waitFor();
    await nothingRan(page);
    await button(page, "Project menu").click();
    await page.getByRole("menuitem", { name: /Stop Session/ }).click();
    await page.getByRole("dialog").getByText(/Stop the session of <img/).waitFor();
    await nothingRan(page);
  });

  on("open=warm&projects=hostile", "a name cannot turn the words around it", async (page) => {
    await row(page, "onerror").waitFor();
    // The name has a right-to-left override; what follows it stands on its own.
    const isolated = await row(page, "onerror").locator(".name").evaluate((e) => getComputedStyle(e).unicodeBidi);
    assert.match(isolated, /isolate/);
  });

  on("open=warm", "an allowed host's name is text", async (page) => {
    await row(page, "api").waitFor();
    await page.evaluate(() => window.__rccFake.touchHosts({ level: "allProjects" }, "<img src=x onerror=alert(4)>"));
    await page.evaluate(() => (location.hash = "#/settings/hosts"));
    await page.locator("tbody bdi", { hasText: "<img src=x onerror=alert(4)>" }).waitFor();
    await nothingRan(page);
  });

  on("open=warm", "an address of the page that is none of ours leads nowhere", async (page) => {
    for (const hash of ["#/p/../../etc", "#/p/<img>", "#javascript:alert(1)", "#/p/ffffffffffffffff/network", "#/settings/<b>"]) {
      await page.evaluate((where) => (location.hash = where), hash);
      await page.locator("header h1").waitFor();
    }
    await nothingRan(page);
  });

  on("open=warm", "state words of the other side are text", async (page) => {
    await opened(page);
    const activity = { state: "trouble", detail: "<img src=x>\u0007\u001b[31m", turns: 1, since: 1 };
    const terminals = [{ number: 1, kind: "claude", activity, exit: null }];
    await tell(page, { kind: "activity", project: "0000000000000002", activity, terminals });
    await row(page, "<img src=x>").waitFor();
    await nothingRan(page);
  });
});

import assert from "node:assert/strict";
import { describe } from "node:test";
import { button, calls, on, row, run, terminalShows } from "./page.js";

describe("folders", () => {
  on("projects=none&open=cold&speed=3", "an empty list, a folder, its steps, its terminal", async (page) => {
    await page.getByText("Open a folder for Claude to work in.").waitFor();
    await page.getByText("It can change that folder and nothing else.").waitFor();
    await button(page, "Open Folder…").click();
    await button(page, "Open in Sandbox").click();
    await page.locator("[data-step=image]", { hasText: /of 480 MB/ }).waitFor();
    await terminalShows(page, "A terminal that only pretends");
    // Quick steps never appeared, and the strip is gone.
    assert.equal(await page.locator(".steps").count(), 0);
    await page.getByText("Behind the firewall").waitFor();
    await run(page, "hello");
    await terminalShows(page, "You said: hello");
  });

  on("open=warm", "a warm start shows no strip", async (page) => {
    await page.clock.install();
    await page.evaluate(() => {
      window.strips = 0;
      new MutationObserver(() => (window.strips += document.querySelectorAll(".steps").length)).observe(document.body, {
        childList: true,
        subtree: true,
      });
    });
    await row(page, "notes").click();
    await button(page, "Open in Sandbox").waitFor();
    // The page's own time: how long drawing takes on this computer does not count.
    await page.clock.pauseAt(Date.now() + 10_000);
    await button(page, "Open in Sandbox").click();
    // What draws terminals comes in real time.
    while ((await calls(page, "open")).length === 0) await new Promise((again) => setTimeout(again, 5));
    for (let ms = 0; ms < 290; ms += 10) await page.clock.runFor(10);
    await page.clock.resume();
    await terminalShows(page, "pretends");
    assert.equal(await page.evaluate(() => window.strips), 0);
  });

  on("", "states stand in words, in their groups", async (page) => {
    const list = await page.getByRole("navigation", { name: "Projects" }).innerText();
    assert.match(list, /Needs you[\s\S]*web-shop[\s\S]*Needs you: Which database/);
    assert.match(list, /Running[\s\S]*api[\s\S]*Working/);
    assert.match(list, /Recent[\s\S]*notes[\s\S]*2 days ago/);
  });

  on("", "a session that runs is shown at once", async (page) => {
    await row(page, "api").click();
    await terminalShows(page, "pretends");
  });

  on("projects=gone", "a folder that is gone says so and can be taken out", async (page) => {
    await row(page, "old-site").click();
    await page.getByText("The folder old-site is gone.").waitFor();
    // Enter does what loses nothing.
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "Look Again");
    await button(page, "Forget").click();
    await row(page, "old-site").waitFor({ state: "detached" });
  });

  on("", "a dropped folder is shown; one that is refused says why", async (page) => {
    await row(page, "notes").waitFor();
    await page.evaluate(() => window.__rccFake.tell({ kind: "dragging", over: true }));
    await page.getByText("Open this folder for Claude to work in").waitFor();
    await page.evaluate(() => {
      window.__rccFake.tell({ kind: "dragging", over: false });
      window.__rccFake.tell({ kind: "dropped", project: "0000000000000003" });
    });
    await page.getByRole("heading", { name: "notes", level: 1 }).waitFor();
  });
});

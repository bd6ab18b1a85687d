import assert from "node:assert/strict";
import { describe } from "node:test";
import { button, calls, on, opened, run, tab, terminalShows } from "./page.js";

const GIB = 1024 ** 3;

describe("the end of Claude", () => {
  on("open=warm&ending=memory", "out of memory is said, and more is one click", async (page) => {
    await opened(page);
    await run(page, "exit 137");
    await page.getByText("Claude ran out of memory (8 GB). Nothing outside was touched; the conversation is kept.").waitFor();
    await button(page, "Resume").waitFor();
    await button(page, "Raise to 12 GB and Resume").click();
    await page.waitForFunction(() => window.__rccFake.calls.some(([call, request]) => call === "open" && request.start === "resume"));
    const [[, , saved]] = await calls(page, "saveProjectSettings");
    assert.equal(saved.memory, 12 * GIB);
    // What else was set stays.
    assert.deepEqual(saved.packages, ["ffmpeg"]);
    assert.equal((await calls(page, "stop")).length, 1);
    await page.getByText("ran out of memory").waitFor({ state: "detached" });
    await terminalShows(page, "pretends");
  });

  on("open=warm&ending=memory", "who would lose other terminals is told", async (page) => {
    await opened(page);
    await page.keyboard.press("Control+Shift+T");
    await tab(page, "Shell 1").waitFor();
    await tab(page, "Claude").click();
    await run(page, "exit 137");
    await page.getByText("Raising it ends 1 other terminal.").waitFor();
  });

  on("open=warm&ending=all-memory", "a computer that has no more offers none", async (page) => {
    await opened(page);
    await run(page, "exit 137");
    await page.getByText("ran out of memory").waitFor();
    assert.equal(await page.getByRole("button", { name: /^Raise/ }).count(), 0);
    await button(page, "Resume").click();
    await page.getByText("ran out of memory").waitFor({ state: "detached" });
  });

  on("open=warm", "what was killed for another reason ran out of nothing", async (page) => {
    await opened(page);
    await run(page, "exit 137");
    await page.getByText("Claude ended (code 137).").waitFor();
    assert.equal((await calls(page, "ending")).length, 1);
    await button(page, "Start Again").click();
    await run(page, "exit 1");
    await page.getByText("Claude ended (code 1).").waitFor();
    assert.equal((await calls(page, "ending")).length, 1);
  });

  on("open=warm&ending=memory", "a sandbox that went as a whole says it, too", async (page) => {
    await opened(page);
    await page.evaluate(() => window.__rccFake.lose("0000000000000002"));
    await page.getByText("Claude ran out of memory (8 GB).").waitFor();
  });
});

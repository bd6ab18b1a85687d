import assert from "node:assert/strict";
import { describe } from "node:test";
import { button, cutOff, on, row, run, terminalShows } from "./page.js";

describe("keyboard and room", () => {
  on("projects=none&open=warm", "from nothing to Claude without a mouse", async (page) => {
    await page.getByText("Open a folder").waitFor();
    await page.keyboard.press("Control+O");
    await page.keyboard.press("Enter");
    await terminalShows(page, "pretends");
    await page.keyboard.type("typed\n");
    await terminalShows(page, "You said: typed");
    // Ctrl+O belongs to Claude now; F6 leaves the terminal.
    const focused = () =>
      page.evaluate(() => {
        const region = document.activeElement.closest("nav, header, .frame");
        return region?.getAttribute("aria-label") ?? region?.className.split(" ")[0] ?? "";
      });
    const header = () => page.evaluate(() => document.activeElement.closest("header") !== null);
    assert.equal(await focused(), "frame");
    await page.keyboard.press("F6");
    assert.equal(await focused(), "Projects");
    await page.keyboard.press("F6");
    assert.equal(await header(), true);
    await page.keyboard.press("F6");
    assert.equal(await focused(), "Terminals and pages");
    await page.keyboard.press("F6");
    assert.equal(await focused(), "frame");
  });

  on("", "arrows go through the list", async (page) => {
    await row(page, "web-shop").focus();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "notes", level: 1 }).waitFor();
  });

  for (const scheme of ["light", "dark"]) {
    on(
      "projects=gone&open=no-helper&speed=4",
      `nothing is cut off at 800×560, ${scheme}`,
      async (page) => {
        assert.deepEqual(await cutOff(page), []);
        await row(page, "web-shop").click();
        await terminalShows(page, "pretends");
        await run(page, "block a-very-long-name.of-a-registry.somewhere-far-away.example.org");
        await page.getByText("a-very-long-name").first().waitFor();
        assert.deepEqual(await cutOff(page), []);
        await run(page, "exit 1");
        await page.getByText("Claude ended (code 1).").waitFor();
        assert.deepEqual(await cutOff(page), []);
        await row(page, "notes").click();
        await button(page, "Open in Sandbox").click();
        await page.getByRole("alert").waitFor();
        assert.deepEqual(await cutOff(page), []);
      },
      { viewport: { width: 800, height: 560 }, colorScheme: scheme },
    );
  }
});

import assert from "node:assert/strict";
import { describe } from "node:test";
import { button, cutOff, on, opened, row, run, tab, terminalShows } from "./page.js";

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

  const SMALL = { viewport: { width: 800, height: 560 } };
  /** Whether it is seen without scrolling, whole. */
  const inSight = (locator) =>
    locator.evaluate((e) => {
      const { left, right, top, bottom } = e.getBoundingClientRect();
      const seen = (x, y) => e.contains(document.elementFromPoint(x, y));
      // Corners may be round.
      const [x, y] = [(left + right) / 2, (top + bottom) / 2];
      return seen(x, top + 1) && seen(x, bottom - 1) && seen(left + 1, y) && seen(right - 1, y);
    });

  on(
    "",
    "the list of keys is read without scrolling sideways, and its end without much",
    async (page) => {
      await button(page, "Help").click();
      const list = page.getByRole("region", { name: "List of keys" });
      assert.equal(await list.evaluate((e) => e.scrollWidth <= e.clientWidth), true);
      assert.equal(await inSight(list.getByText("New shell")), true);
      assert.ok((await list.evaluate((e) => e.scrollHeight - e.clientHeight)) < 60);
    },
    SMALL,
  );

  on(
    "open=warm",
    "Check Now stays in sight below what was tried, and so do the names of tabs",
    async (page) => {
      await opened(page, "web-shop");
      await button(page, "Protected").click();
      await button(page, "Check Now").click();
      await page.getByText("What was tried").click();
      await page.getByText("Other sandboxes are out of reach").waitFor();
      assert.equal(await inSight(button(page, "Check Now")), true);
      await page.keyboard.press("Escape");
      assert.equal(await inSight(tab(page, "Claude").locator(".label")), true);
      assert.equal(await inSight(tab(page, "Shell 1").locator(".label")), true);
    },
    SMALL,
  );

  on(
    "projects=none",
    "the button that goes on is in sight on the page of the first run",
    async (page) => {
      await page.evaluate(() => (location.hash = "#/setup"));
      await page.getByText("Everything is ready.").waitFor();
      assert.equal(await inSight(page.locator(".sheet").getByRole("button", { name: "Open Folder…" })), true);
    },
    SMALL,
  );

  on("", "a long path gives way in its middle", async (page) => {
    const path = row(page, "web-shop").locator(".path").first();
    const whole = await path.innerText();
    assert.match(whole.replace(/\s/g, ""), /^~\/code\/clients\/.*name$/);
    assert.equal(await path.locator(".end").evaluate((e) => e.scrollWidth <= e.clientWidth + 1), true);
    assert.equal(await path.locator(".first").evaluate((e) => e.scrollWidth > e.clientWidth), true);
    assert.equal(await inSight(path.locator(".end")), true);
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

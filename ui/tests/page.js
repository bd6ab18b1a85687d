/** What every test of the page needs. Without Chromium each test says that it is skipped. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { begin, skip } from "./browser.js";

export { run, skip, terminalShows, terminalText } from "./browser.js";

let browser;
before(async () => {
  if (!skip) browser = await begin();
});
after(() => browser?.end());

/** A test with a page of its own, on which nothing may be complained about. */
export function on(query, name, act, options) {
  test(name, { skip, timeout: 60_000 }, async () => {
    const page = await browser.open(query, options);
    try {
      await act(page);
      assert.deepEqual(page.complaints, []);
    } finally {
      await page.context().close();
    }
  });
}

export const button = (page, name) => page.getByRole("button", { name, exact: true });

/** The row of a project in the sidebar. */
export const row = (page, name) => page.locator("nav button.row", { hasText: name });

/** A tab of the project in sight: of a terminal, or of a page. */
export const tab = (page, name) => page.locator("nav button.tab", { hasText: name });

export const calls = (page, name) =>
  page.evaluate((wanted) => window.__rccFake.calls.filter(([call]) => call === wanted), name);

export const tell = (page, event) => page.evaluate((what) => window.__rccFake.tell(what), event);

/** A project that runs, with Claude in sight. */
export async function opened(page, name = "api") {
  await row(page, name).click();
  await page.waitForFunction(() => window.__rccTerminalText().includes("pretends"));
}

/** Chooses from the menu behind a button. */
export async function choose(page, menu, item) {
  await button(page, menu).click();
  await page.getByRole("menuitem", { name: item }).click();
}

/** What does not fit into the window, by its first words. */
export function cutOff(page) {
  return page.evaluate(() => {
    const hidden = (e) => !e.checkVisibility() || e.closest(".xterm, .visually-hidden") !== null;
    return [...document.querySelectorAll("button, h1, h2, h3, p, summary, input, select, label, td, th, dd, dt, [role=menuitem]")]
      .filter((e) => !hidden(e))
      .filter((e) => {
        const box = e.getBoundingClientRect();
        const scrolled = e.closest(".list, .page, .sheet, .scroll, .network, .terminals, .keys, #go-list");
        const sideways = e.closest(".terminals") !== null;
        return (!sideways && (box.right > innerWidth + 0.5 || box.left < -0.5)) || (!scrolled && box.bottom > innerHeight + 0.5);
      })
      .map((e) => `${e.nodeName} ${(e.textContent || e.getAttribute("aria-label") || "").trim().slice(0, 40)}`);
  });
}

/** Pastes into the terminal in sight as a desktop does. */
export function paste(page, text) {
  return page.evaluate((what) => {
    const data = new DataTransfer();
    data.setData("text/plain", what);
    const event = new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
    document.querySelector(".xterm-helper-textarea").dispatchEvent(event);
  }, text);
}

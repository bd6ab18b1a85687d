/** Pictures of every page on the fake: `npm run screenshots -- FOLDER [NAME…]`. */

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { begin, executablePath } from "./tests/browser.js";
import { button, choose, opened, paste, row, run, tab, tell } from "./tests/page.js";

const SIZES = [
  { width: 1280, height: 800 },
  { width: 800, height: 560 },
];

/** Name, the fake's options, and the way there. */
const PAGES = [
  ["start-empty", "projects=none", (page) => page.getByText("or drop one here").waitFor()],
  ["start", "projects=many", (page) => page.getByText("or drop one here").waitFor()],
  ["closed", "", (page) => row(page, "notes").click()],
  ["gone", "projects=gone", (page) => row(page, "old-site").click()],
  ["opening", "open=cold&speed=3", async (page) => {
    await row(page, "notes").click();
    await button(page, "Open in Sandbox").click();
    await page.locator("[data-step=image] progress").waitFor();
  }],
  ["error", "open=no-helper&speed=8", async (page) => {
    await row(page, "notes").click();
    await button(page, "Open in Sandbox").click();
    await page.getByRole("alert").waitFor();
  }],
  ["terminal", "projects=many", async (page) => {
    await opened(page, "web-shop");
    await run(page, "colours");
  }],
  ["terminal-blocked", "projects=many", async (page) => {
    await opened(page);
    await run(page, "block registry.example.org");
  }],
  ["terminal-ended", "", async (page) => {
    await opened(page);
    await run(page, "exit 1");
    await button(page, "Start Again").waitFor();
  }],
  ["terminal-memory", "ending=memory", async (page) => {
    await opened(page);
    await run(page, "exit 137");
    await page.getByRole("button", { name: /^Raise/ }).waitFor();
  }],
  ["login", "login=offered", async (page) => {
    await opened(page);
    await button(page, "Use…").waitFor();
  }],
  ["login-token", "login=offered", async (page) => {
    await opened(page);
    await button(page, "Use…").click();
    await page.getByLabel("Token").waitFor();
  }],
  ["copy-file", "", async (page) => {
    await opened(page);
    await page.evaluate(() => window.__rccFake.drop([{ name: "plan.pdf", inside: null }]));
    await page.getByRole("dialog").waitFor();
  }],
  ["terminals", "open=warm", async (page) => {
    await opened(page, "web-shop");
    await page.keyboard.press("Control+Shift+T");
    await tab(page, "Shell 2").waitFor();
    await run(page, "ls");
  }],
  ["find", "", async (page) => {
    await opened(page);
    await run(page, "colours");
    await page.keyboard.press("Control+Shift+F");
    await page.keyboard.type("colour");
  }],
  ["paste", "", async (page) => {
    await opened(page);
    await paste(page, "npm test\nnpm run build\n");
  }],
  ["menu", "", async (page) => {
    await opened(page);
    await button(page, "Project menu").click();
  }],
  ["shield", "", async (page) => {
    await opened(page);
    await button(page, "Protected").click();
  }],
  ["shield-notes", "limits=none", async (page) => {
    await opened(page);
    await button(page, "Protected, with notes").click();
  }],
  ["shield-tried", "", async (page) => {
    await opened(page);
    await button(page, "Protected").click();
    await button(page, "Check Now").click();
    await page.getByText("What was tried").click();
  }],
  ["network", "", async (page) => {
    await opened(page);
    await tab(page, "Network").click();
    await page.getByText("api.anthropic.com").waitFor();
  }],
  ["network-menu", "", async (page) => {
    await opened(page);
    await tab(page, "Network").click();
    await button(page, "Allow registry.example.org").click();
  }],
  ["network-open", "", async (page) => {
    await opened(page);
    await tab(page, "Network").click();
    await button(page, "Open to the Internet for 5 Minutes…").click();
    await button(page, "Open for 5 Minutes").click();
    await button(page, "Close Now").first().waitFor();
  }],
  ["network-empty", "network=none", async (page) => {
    await opened(page);
    await tab(page, "Network").click();
  }],
  ["resources", "", async (page) => {
    await opened(page);
    await tab(page, "Resources").click();
  }],
  ["resources-unheld", "limits=none", async (page) => {
    await opened(page);
    await tab(page, "Resources").click();
  }],
  ["review", "review=some", async (page) => {
    await opened(page);
    await button(page, "Review").click();
    await button(page, "Show what changed in .git/config").click();
    await page.getByRole("region", { name: "What changed in .git/config" }).waitFor();
  }],
  ["review-bar", "review=some", async (page) => {
    await opened(page);
    await page.getByRole("status", { name: "Changed files" }).waitFor();
  }],
  ["project-settings", "", async (page) => {
    await opened(page);
    await tab(page, "Settings").click();
    await page.getByText("This project uses only").waitFor();
  }],
  ["project-settings-below", "", async (page) => {
    await opened(page);
    await tab(page, "Settings").click();
    await page.locator("#image").scrollIntoViewIfNeeded();
    await page.locator(".sheet").evaluate((sheet) => sheet.scrollTo(0, 1e6));
  }],
  ["setup", "setup=bare&projects=none&speed=1", async (page) => {
    await page.getByRole("button", { name: /^Build/ }).click();
    await page.getByRole("button", { name: /^Download/ }).click();
    await page.waitForTimeout(900);
  }],
  ["setup-good", "projects=none", async (page) => {
    await page.evaluate(() => (location.hash = "#/setup"));
    await page.getByText("Everything is ready.").waitFor();
  }],
  ...["general", "hosts", "image", "terminal", "notifications", "about"].map((section) => [
    `settings-${section}`, "", (page) => page.evaluate((where) => (location.hash = where), `#/settings/${section}`),
  ]),
  ["settings-hosts-computer", "", async (page) => {
    await page.evaluate(() => (location.hash = "#/settings/hosts"));
    await button(page, "This computer").click();
  }],
  ["settings-hosts-form", "hosts=many", async (page) => {
    await page.evaluate(() => (location.hash = "#/settings/hosts"));
    await button(page, "Allow a Host…").click();
    await page.getByLabel("Host name or address").fill("*.example.org");
    await page.getByLabel("Ports").fill("443, 99999");
    await page.getByText("is no port").waitFor();
  }],
  ["keys", "", (page) => button(page, "Help").click()],
  ["switcher", "projects=many", async (page) => {
    await page.keyboard.press("Control+K");
    await page.keyboard.type("d");
  }],
  ["quit", "", (page) => page.keyboard.press("Control+Q")],
  ["row-menu", "", (page) => button(page, "More about notes").click()],
  ["shield-open", "verify=open", async (page) => {
    await opened(page);
    await button(page, "Protected").click();
    await button(page, "Check Now").click();
    await page.getByText("1 way out").waitFor();
  }],
  ["request", "projects=many", async (page) => {
    await opened(page);
    await run(page, "block db.internal");
    await page.keyboard.press("Control+Shift+A");
    await button(page, "Copy Request").waitFor();
  }],
  ["stop", "", async (page) => {
    await opened(page);
    await choose(page, "Project menu", /Stop Session/);
  }],
  ["close-tab", "", async (page) => {
    await opened(page);
    await page.keyboard.press("Control+Shift+W");
    await page.getByRole("dialog").waitFor();
  }],
  ["open-internet", "", async (page) => {
    await opened(page);
    await tab(page, "Network").click();
    await button(page, "Open to the Internet for 5 Minutes…").click();
  }],
  ["tray-note", "", (page) => tell(page, { kind: "hides" })],
  ["unusable", "unusable&projects=none", (page) => page.getByRole("alert").waitFor()],
  ["lost", "", async (page) => {
    await opened(page);
    await page.evaluate(() => window.__rccFake.lose("0000000000000002"));
    await button(page, "Close").waitFor();
  }],
  ["hosts-changed", "", async (page) => {
    await page.evaluate(() => (location.hash = "#/settings/hosts"));
    await button(page, "Allow a Host…").click();
    await page.getByLabel("Host name or address").fill("mine.example.org");
    await page.evaluate(() => window.__rccFake.touchHosts({ level: "allProjects" }, "theirs.example.org"));
    await tell(page, { kind: "hosts", level: "allProjects" });
    await page.getByText("changed elsewhere").waitFor();
  }],
  ["hosts-preset", "", async (page) => {
    await page.evaluate(() => (location.hash = "#/settings/hosts"));
    await button(page, "This computer").click();
    await page.getByText("Claude only.").click();
    await button(page, "Undo").waitFor();
  }],
  ["high-contrast-terminal", "projects=many", async (page) => {
    await page.emulateMedia({ contrast: "more" });
    await opened(page);
    await run(page, "colours");
    await run(page, "block registry.example.org");
  }],
  ["high-contrast-settings", "", async (page) => {
    await page.emulateMedia({ contrast: "more" });
    await page.evaluate(() => (location.hash = "#/settings/general"));
  }],
];

const [folder, ...only] = process.argv.slice(2);
if (!folder || !executablePath) {
  console.error(folder ? "Chromium is not installed (RCC_CHROMIUM names another place)." : "Which folder?");
  process.exit(2);
}
mkdirSync(folder, { recursive: true });
const browser = await begin();
let failed = 0;
for (const [name, query, go] of PAGES) {
  if (only.length > 0 && !only.includes(name)) continue;
  for (const colorScheme of ["light", "dark"]) {
    for (const viewport of SIZES) {
      const page = await browser.open(query.includes("open=") ? query : `open=warm&${query}`, { viewport, colorScheme });
      await page.locator("header").waitFor();
      page.setDefaultTimeout(8000);
      try {
        await go(page);
      } catch (error) {
        failed += 1;
        console.error(`${name}: ${error.message.split("\n")[0]}`);
      }
      await page.waitForTimeout(250);
      await page.screenshot({ path: join(folder, `${name}-${colorScheme}-${viewport.width}.png`) });
      await page.context().close();
    }
  }
}
await browser.end();
process.exit(failed > 0 ? 1 : 0);

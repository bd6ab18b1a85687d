/** Chromium on the page with the fake, under the window's own content-security policy. */

import { existsSync } from "node:fs";
import { chromium } from "playwright-core";
import { preview } from "vite";

const CANDIDATES = [process.env.RCC_CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** How many times slower pages are than this computer: what only a slow one shows is seen on any. */
const slower = Number(process.env.RCC_SLOWER ?? 1);

/** Where Chromium is, or nothing: then the tests are skipped with the reason. */
export const executablePath = CANDIDATES.find((path) => path && existsSync(path));

export const skip = executablePath ? false : "Chromium is not installed (RCC_CHROMIUM names another place)";

export async function begin() {
  const server = await preview({
    mode: "fake",
    build: { outDir: "dist-fake" },
    preview: { host: "127.0.0.1", port: 0 },
    logLevel: "error",
  });
  // As root (a container) Chromium cannot make its own sandbox.
  const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  const browser = await chromium.launch({ executablePath, args });
  const address = server.httpServer.address();
  return {
    /** A fresh page; what it complains about is collected in `page.complaints`. */
    async open(query = "", options = {}) {
      const context = await browser.newContext({ viewport: { width: 1100, height: 720 }, ...options });
      const page = await context.newPage();
      page.complaints = [];
      if (slower > 1) {
        const chrome = await context.newCDPSession(page);
        await chrome.send("Emulation.setCPUThrottlingRate", { rate: slower });
      }
      page.on("console", (message) => {
        if (["error", "warning"].includes(message.type())) page.complaints.push(message.text());
      });
      page.on("pageerror", (error) => page.complaints.push(String(error)));
      page.setDefaultTimeout(15_000);
      await page.goto(`http://127.0.0.1:${address.port}/?${query}`);
      return page;
    },
    async end() {
      await browser.close();
      await server.close();
    },
  };
}

/** What the terminal in sight shows. */
export function terminalText(page) {
  return page.evaluate(() => window.__rccTerminalText());
}

export async function terminalShows(page, text) {
  await page.waitForFunction((wanted) => window.__rccTerminalText().includes(wanted), text);
}

/** Types into the terminal as a person would. */
export async function run(page, line) {
  await page.locator(".sandbox:not([hidden]) .pane:not([hidden]) .xterm-helper-textarea").focus();
  await page.keyboard.type(line);
  await page.keyboard.press("Enter");
}

/** The page on the fake, as a person uses it. Needs Chromium; else each test says that it is skipped. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { begin, run, skip, terminalShows, terminalText } from "./browser.js";

let browser;
before(async () => {
  if (!skip) browser = await begin();
});
after(() => browser?.end());

/** A test with a page of its own, on which nothing may be complained about. */
function on(query, name, act, options) {
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

const button = (page, name) => page.getByRole("button", { name, exact: true });
const row = (page, name) => page.getByRole("navigation").getByRole("button", { name: new RegExp(name) });
const calls = (page, name) =>
  page.evaluate((wanted) => window.__rccFake.calls.filter(([call]) => call === wanted), name);

describe("folders", () => {
  on("projects=none&open=cold&speed=6", "an empty list, a folder, its steps, its terminal", async (page) => {
    await page.getByText("Open a folder for Claude to work in.").waitFor();
    await page.getByText("It can change that folder and nothing else.").waitFor();
    await button(page, "Open Folder…").click();
    await button(page, "Open in Sandbox").click();
    await page.locator("[data-step=image] progress").waitFor();
    assert.match(await page.locator("[data-step=image]").innerText(), /of 480 MB/);
    await terminalShows(page, "A terminal that only pretends");
    // Quick steps never appeared, and the strip is gone.
    assert.equal(await page.locator(".steps").count(), 0);
    await page.getByText("Behind the firewall").waitFor();
    await run(page, "hello");
    await terminalShows(page, "You said: hello");
  });

  on("open=warm", "a warm start shows no strip", async (page) => {
    await page.evaluate(() => {
      window.strips = 0;
      new MutationObserver(() => (window.strips += document.querySelectorAll(".steps").length)).observe(document.body, {
        childList: true,
        subtree: true,
      });
    });
    await row(page, "notes").click();
    await button(page, "Open in Sandbox").click();
    await terminalShows(page, "pretends");
    assert.equal(await page.evaluate(() => window.strips), 0);
  });

  on("", "states stand in words, in their groups", async (page) => {
    const list = await page.getByRole("navigation").innerText();
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
    await page.getByRole("main").getByRole("button", { name: "Remove from List" }).click();
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

describe("errors", () => {
  on("speed=2", "cancel undoes and goes back", async (page) => {
    await row(page, "notes").click();
    await button(page, "Open in Sandbox").click();
    await button(page, "Cancel").click();
    await button(page, "Open in Sandbox").waitFor();
    assert.equal(await page.getByRole("alert").count(), 0);
    // And it can be opened after that.
    await button(page, "Open in Sandbox").click();
    await terminalShows(page, "pretends");
  });

  on("open=no-helper&speed=4", "without the firewall service: the one form, then offline", async (page) => {
    await row(page, "notes").click();
    await button(page, "Open in Sandbox").click();
    const form = page.getByRole("alert");
    await form.getByText("The firewall service does not answer. Sandboxes can start offline only.").waitFor();
    await form.getByText("It is not installed, or it could not be started.").waitFor();
    assert.equal(await form.getByText("RCC-E501").isVisible(), false);
    await form.getByText("Details").click();
    await form.getByText("RCC-E501").waitFor();
    await button(page, "Copy").click();
    const [[, copied]] = await calls(page, "copy");
    assert.match(copied, /RCC-E501\norg\.freedesktop/);
    await button(page, "Start Offline").click();
    await terminalShows(page, "pretends");
    await page.getByText("Offline", { exact: true }).waitFor();
  });

  on("open=no-podman&speed=4", "without an engine: try again, close", async (page) => {
    await row(page, "notes").click();
    await button(page, "Open in Sandbox").click();
    await page.getByRole("alert").getByText("Podman is not installed.").waitFor();
    assert.match(await page.locator(".steps").innerText(), /Engine\s+failed/);
    await button(page, "Close").click();
    await button(page, "Open in Sandbox").waitFor();
  });

  on("choose=home", "a folder that is refused", async (page) => {
    await page.getByRole("navigation").getByRole("button", { name: /Open Folder/ }).click();
    await page.getByRole("alert").getByText("Cannot open your home folder.").waitFor();
    await button(page, "Choose…").waitFor();
  });

  on("unusable&projects=none", "a computer on which nothing can be opened", async (page) => {
    await page.getByRole("alert").getByText("rcc does not run as root.").waitFor();
    assert.equal(await page.getByRole("button", { name: /Open Folder/ }).isDisabled(), true);
  });

  on("open=warm&note", "a note stays until it is dismissed", async (page) => {
    await row(page, "notes").click();
    await button(page, "Open in Sandbox").click();
    await page.getByText("cannot limit a sandbox's memory").waitFor();
    await button(page, "Dismiss").click();
    await page.getByText("cannot limit a sandbox's memory").waitFor({ state: "detached" });
  });
});

describe("blocked hosts", () => {
  on("open=warm", "allow for the project, not now, what no rule opens", async (page) => {
    await row(page, "api").click();
    await terminalShows(page, "pretends");
    const bar = page.getByRole("status", { name: "Blocked host" });
    await run(page, "block registry.example.org");
    await bar.getByText("registry.example.org").waitFor();
    await bar.getByRole("button", { name: "Allow for This Project" }).click();
    await bar.waitFor({ state: "detached" });
    const [[, request]] = await calls(page, "allow");
    assert.deepEqual(request, {
      project: "0000000000000002",
      target: "registry.example.org",
      port: 0,
      protocol: "tcp",
      private: false,
    });

    await run(page, "block 169.254.169.254");
    await bar.getByText("No rule can open this address.").waitFor();
    assert.equal(await bar.getByRole("button", { name: "Allow for This Project" }).count(), 0);
    await bar.getByRole("button", { name: "Dismiss" }).click();

    await run(page, "block other.example.org");
    await bar.getByRole("button", { name: "Not Now" }).click();
    await bar.waitFor({ state: "detached" });
    await run(page, "block other.example.org");
    await page.waitForTimeout(200);
    assert.equal(await bar.count(), 0);
  });

  on("open=warm", "what the administrator does not let through says why", async (page) => {
    await row(page, "api").click();
    await terminalShows(page, "pretends");
    await run(page, "block db.internal");
    // From the keyboard, with the terminal focused.
    await page.keyboard.press("Control+Shift+A");
    await page.getByText("The administrator allows only public hosts here.").waitFor();
    assert.equal((await calls(page, "allow")).length, 1);
  });

  on("open=warm", "another project's host is only counted", async (page) => {
    await row(page, "api").click();
    await terminalShows(page, "pretends");
    await page.evaluate(() =>
      window.__rccFake.tell({
        kind: "blocked", project: "0000000000000001", target: "a.example", port: 443, protocol: "tcp", reason: "not-allowed",
      }),
    );
    await row(page, "web-shop").getByText("1 blocked").waitFor();
    assert.equal(await page.getByRole("status", { name: "Blocked host" }).count(), 0);
  });

  on("open=warm", "a name is text, whatever it says (T3)", async (page) => {
    await row(page, "api").click();
    await terminalShows(page, "pretends");
    await run(page, "block <img/src=x/onerror=alert(1)>");
    await page.getByText("<img/src=x/onerror=alert(1)>", { exact: true }).waitFor();
    assert.equal(await page.locator("main img").count(), 0);
  });
});

describe("terminal", () => {
  const opened = async (page) => {
    await row(page, "api").click();
    await terminalShows(page, "pretends");
  };

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
    await button(page, "Stop Session…").click();
    await page.getByRole("dialog").getByText("The folder and the conversation are kept.").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await button(page, "Stop Session…").click();
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
    const background = () => page.evaluate(() => getComputedStyle(document.querySelector(".xterm-viewport")).backgroundColor);
    const before = await background();
    await page.emulateMedia({ colorScheme: "light" });
    assert.notEqual(await background(), before);
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

describe("keyboard and room", () => {
  on("projects=none&open=warm", "from nothing to Claude without a mouse", async (page) => {
    await page.getByText("Open a folder").waitFor();
    await page.keyboard.press("Control+O");
    await page.keyboard.press("Enter");
    await terminalShows(page, "pretends");
    await page.keyboard.type("typed\n");
    await terminalShows(page, "You said: typed");
    // Ctrl+O belongs to Claude now; F6 leaves the terminal.
    const focused = () => page.evaluate(() => document.activeElement.closest("nav, header, .frame")?.nodeName);
    assert.equal(await focused(), "DIV");
    await page.keyboard.press("F6");
    assert.equal(await focused(), "NAV");
    await page.keyboard.press("F6");
    assert.equal(await focused(), "HEADER");
    await page.keyboard.press("F6");
    assert.equal(await focused(), "DIV");
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
        const overflow = () =>
          page.evaluate(() => {
            const hidden = (e) => !e.checkVisibility() || e.closest(".xterm, .visually-hidden") !== null;
            return [...document.querySelectorAll("button, h1, h2, p, summary")]
              .filter((e) => !hidden(e))
              .filter((e) => {
                const box = e.getBoundingClientRect();
                const scrolled = e.closest(".list, .page");
                return box.right > innerWidth + 0.5 || box.left < -0.5 || (!scrolled && box.bottom > innerHeight + 0.5);
              })
              .map((e) => e.textContent.trim().slice(0, 40));
          });
        assert.deepEqual(await overflow(), []);
        await row(page, "web-shop").click();
        await terminalShows(page, "pretends");
        await run(page, "block a-very-long-name.of-a-registry.somewhere-far-away.example.org");
        await page.getByText("a-very-long-name").first().waitFor();
        assert.deepEqual(await overflow(), []);
        await run(page, "exit 1");
        await page.getByText("Claude ended").waitFor();
        assert.deepEqual(await overflow(), []);
        await row(page, "notes").click();
        await button(page, "Open in Sandbox").click();
        await page.getByRole("alert").waitFor();
        assert.deepEqual(await overflow(), []);
      },
      { viewport: { width: 800, height: 560 }, colorScheme: scheme },
    );
  }
});

import assert from "node:assert/strict";
import { describe } from "node:test";
import { violations } from "./axe.js";
import { button, choose, cutOff, on, opened, paste, row, run, tab, tell } from "./page.js";

const at = (where) => (page) => page.evaluate((hash) => (location.hash = hash), where);

/** Every page, with the way there. */
const PAGES = {
  start: ["projects=many", (page) => page.getByText("or drop one here").waitFor()],
  closed: ["projects=gone", (page) => row(page, "notes").click()],
  terminal: ["", async (page) => {
    await opened(page, "web-shop");
    await run(page, "block a-very-long-name.of-a-registry.somewhere-far-away.example.org");
    await button(page, "More…").waitFor();
  }],
  ended: ["", async (page) => {
    await opened(page);
    await run(page, "exit 1");
    await button(page, "Start Again").waitFor();
    await page.keyboard.press("Control+Shift+F");
    await page.getByRole("searchbox", { name: "Find in the terminal" }).waitFor();
  }],
  "out of memory": ["ending=memory", async (page) => {
    await opened(page);
    await run(page, "exit 137");
    await page.getByRole("button", { name: /^Raise/ }).waitFor();
  }],
  "login bar": ["login=offered", async (page) => {
    await opened(page);
    await button(page, "Use…").waitFor();
  }],
  "login field": ["login=offered", async (page) => {
    await opened(page);
    await button(page, "Use…").click();
    await page.getByLabel("Token").fill("hello");
    await button(page, "Keep").click();
    await page.getByRole("alert").waitFor();
  }],
  "copy question": ["", async (page) => {
    await opened(page);
    await page.evaluate(() => window.__rccFake.drop([{ name: "a-file-with-a-long-name-from-somewhere-else.pdf", inside: null }]));
    await page.getByRole("dialog").waitFor();
  }],
  menu: ["", async (page) => {
    await opened(page);
    await button(page, "Project menu").click();
    await page.getByRole("menuitem").first().waitFor();
  }],
  opening: ["open=cold&speed=0.5", async (page) => {
    await row(page, "notes").click();
    await button(page, "Open in Sandbox").click();
    await button(page, "Cancel").waitFor();
    await page.locator(".steps li").first().waitFor();
  }],
  "error form": ["open=no-helper&speed=20", async (page) => {
    await row(page, "notes").click();
    await button(page, "Open in Sandbox").click();
    await button(page, "Start Offline").waitFor();
    await page.getByText("Details").click();
  }],
  unusable: ["unusable&projects=none", (page) => page.getByRole("alert").waitFor()],
  "gone folder": ["projects=gone", (page) => row(page, "old-site").click()],
  "paste preview": ["", async (page) => {
    await opened(page);
    await paste(page, "one\n".repeat(40));
    await page.getByRole("dialog").waitFor();
  }],
  "stop question": ["", async (page) => {
    await opened(page);
    await choose(page, "Project menu", /Stop Session/);
    await page.getByRole("dialog").waitFor();
  }],
  "close question": ["", async (page) => {
    await opened(page);
    await page.keyboard.press("Control+Shift+W");
    await page.getByRole("dialog").waitFor();
  }],
  "internet question": ["", async (page) => {
    await opened(page);
    await tab(page, "Network").click();
    await page.getByRole("button", { name: /^Open to the Internet/ }).click();
    await page.getByRole("dialog").waitFor();
  }],
  "open to the internet": ["", async (page) => {
    await opened(page);
    await tab(page, "Network").click();
    await page.getByRole("button", { name: /^Open to the Internet/ }).click();
    await button(page, "Open for 5 Minutes").click();
    await button(page, "Close Now").first().waitFor();
  }],
  "tray note": ["", async (page) => {
    await row(page, "api").waitFor();
    await tell(page, { kind: "hides" });
    await page.getByRole("dialog").waitFor();
  }],
  "layer question": ["", async (page) => {
    await at("#/settings/image")(page);
    await page.getByRole("button", { name: /^Remove/ }).first().click();
    await page.waitForTimeout(100);
  }],
  "empty network": ["network=none", async (page) => {
    await opened(page);
    await tab(page, "Network").click();
    await page.getByText("Nothing has been reached or blocked yet.").waitFor();
  }],
  "setup ready": ["", async (page) => {
    await at("#/setup")(page);
    await page.getByText("Everything is ready.").waitFor();
  }],
  "changed elsewhere": ["", async (page) => {
    await at("#/settings/hosts")(page);
    await button(page, "Take out proxy.example.com").click();
    await page.getByText("was taken out").waitFor();
    await page.evaluate(() => window.__rccFake.touchHosts({ level: "allProjects" }, "theirs.example.org"));
    await tell(page, { kind: "hosts", level: "allProjects" });
    await page.getByText("changed elsewhere").waitFor();
  }],
  "a preset": ["", async (page) => {
    await at("#/settings/hosts")(page);
    await button(page, "This computer").click();
    await page.getByText("Claude only.").click();
    await button(page, "Undo").waitFor();
  }],
  "lost session": ["", async (page) => {
    await opened(page);
    await page.evaluate(() => window.__rccFake.lose("0000000000000002"));
    await button(page, "Close").waitFor();
  }],
  "what was tried": ["verify=open", async (page) => {
    await opened(page);
    await button(page, "Protected").click();
    await button(page, "Check Now").click();
    await page.getByText("1 way out").waitFor();
  }],
  shield: ["limits=none", async (page) => {
    await opened(page);
    await button(page, "Protected, with notes").click();
  }],
  network: ["", async (page) => {
    await opened(page);
    await tab(page, "Network").click();
    await page.getByText("api.anthropic.com").waitFor();
  }],
  "network menu": ["", async (page) => {
    await opened(page);
    await tab(page, "Network").click();
    await button(page, "Allow registry.example.org").click();
    await page.getByRole("menuitem").first().waitFor();
    // All of it is in sight, not only what a sideways scroll would show.
    const menu = page.locator(".menu:popover-open");
    assert.ok((await menu.getByRole("menuitem").count()) >= 5);
    assert.ok(await menu.evaluate((e) => e.scrollWidth <= e.clientWidth && e.clientHeight > 150));
  }],
  review: ["review=some", async (page) => {
    await opened(page);
    await button(page, "Review").click();
    await button(page, "Show what changed in .git/config").click();
    await page.getByRole("region", { name: "What changed in .git/config" }).waitFor();
  }],
  "review bar": ["review=some", async (page) => {
    await opened(page);
    await page.getByRole("status", { name: "Changed files" }).waitFor();
  }],
  resources: ["limits=none", async (page) => {
    await opened(page);
    await tab(page, "Resources").click();
    await page.getByText("Limits are not held.").waitFor();
  }],
  "project settings": ["", async (page) => {
    await opened(page);
    await tab(page, "Settings").click();
    await page.getByText("This project uses only").waitFor();
  }],
  setup: ["setup=bare&projects=none", (page) => page.getByText("Before the first sandbox").waitFor()],
  general: ["", async (page) => {
    await at("#/settings/general")(page);
    await button(page, "Add…").click();
  }],
  hosts: ["hosts=many", async (page) => {
    await at("#/settings/hosts")(page);
    await button(page, "Allow a Host…").click();
    await page.getByLabel("Host name or address").fill("*.com");
    await page.getByText("whole top-level domain").waitFor();
  }],
  "this computer's hosts": ["", async (page) => {
    await at("#/settings/hosts")(page);
    await button(page, "This computer").click();
    await page.getByText("Balanced").waitFor();
  }],
  image: ["", at("#/settings/image")],
  "terminal settings": ["", at("#/settings/terminal")],
  notifications: ["", at("#/settings/notifications")],
  about: ["", at("#/settings/about")],
  quit: ["", async (page) => {
    await row(page, "api").waitFor();
    await page.keyboard.press("Control+Q");
    await page.getByRole("dialog").waitFor();
  }],
  keys: ["", (page) => button(page, "Help").click()],
  switcher: ["", async (page) => {
    await row(page, "api").waitFor();
    await page.keyboard.press("Control+K");
    await page.getByRole("option").first().waitFor();
  }],
};

/** Buttons and fields that are smaller than a finger or a shaky hand needs. */
function tooSmall(page) {
  return page.evaluate(() => {
    const low = (e) => {
      const box = (e.closest("label") ?? e).getBoundingClientRect();
      return box.height < 31.5 || box.width < 31.5;
    };
    return [...document.querySelectorAll("button, input, select, summary")]
      .filter((e) => e.checkVisibility() && !e.closest(".xterm"))
      .filter(low)
      .map((e) => e.outerHTML.slice(0, 120));
  });
}

function tooFine(page) {
  return page.evaluate(() =>
    [...document.querySelectorAll("body *")]
      .filter((e) => e.checkVisibility() && !e.closest(".xterm, .visually-hidden") && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
      .filter((e) => parseFloat(getComputedStyle(e).fontSize) < 12)
      .map((e) => e.textContent.trim().slice(0, 40)),
  );
}

describe("for everybody", () => {
  for (const [name, [query, go]] of Object.entries(PAGES)) {
    for (const colorScheme of ["light", "dark"]) {
      on(
        `${query}&open=warm`,
        `${name}, ${colorScheme}: axe finds nothing, nothing is cut off, small or fine`,
        async (page) => {
          await page.locator("header").waitFor();
          await go(page);
          await page.waitForTimeout(150);
          assert.deepEqual(await cutOff(page), []);
          assert.deepEqual(await tooSmall(page), []);
          assert.deepEqual(await tooFine(page), []);
          assert.deepEqual(await violations(page), []);
        },
        { viewport: { width: 800, height: 560 }, colorScheme },
      );
    }
  }

  for (const colorScheme of ["light", "dark"]) {
    for (const name of ["terminal", "network", "what was tried", "general", "hosts", "a preset", "setup", "error form"]) {
      const [query, go] = PAGES[name];
      on(`${query}&open=warm`, `${name}, ${colorScheme}, high contrast: axe finds nothing, not even of the stricter rule`, async (page) => {
        await page.locator("header").waitFor();
        await go(page);
        await page.waitForTimeout(150);
        assert.deepEqual(await violations(page, { rules: { "color-contrast-enhanced": { enabled: true } } }), []);
      }, { viewport: { width: 800, height: 560 }, colorScheme, contrast: "more" });
    }
  }

  on("open=warm", "at 200 % nothing is cut off, and the sidebar gives way", async (page) => {
    await row(page, "web-shop").waitFor({ state: "hidden" });
    assert.deepEqual(await cutOff(page), []);
    await page.keyboard.press("F9");
    await row(page, "api").click();
    await row(page, "api").waitFor({ state: "hidden" });
    for (const name of ["Network", "Resources", "Settings"]) {
      await tab(page, name).click();
      await page.waitForTimeout(100);
      assert.deepEqual(await cutOff(page), []);
    }
  }, { viewport: { width: 400, height: 280 }, deviceScaleFactor: 2 });

  on("open=warm", "less motion: nothing turns", async (page) => {
    await row(page, "api").locator(".spinner").waitFor();
    const name = await row(page, "api").locator(".spinner").evaluate((e) => getComputedStyle(e).animationName);
    assert.equal(name, "none");
  }, { reducedMotion: "reduce" });

  on("open=warm", "with forced colours the chosen row and switch are seen", async (page) => {
    await row(page, "notes").click();
    const outline = await row(page, "notes").evaluate((e) => getComputedStyle(e).outlineStyle);
    assert.equal(outline, "solid");
  }, { forcedColors: "active" });
});

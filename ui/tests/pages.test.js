import assert from "node:assert/strict";
import { describe } from "node:test";
import { button, calls, choose, on, opened, row, tab, tell, terminalShows } from "./page.js";

const goto = (page, hash) => page.evaluate((where) => (location.hash = where), hash);
const saved = async (page) => (await calls(page, "saveSettings")).at(-1)[1];

describe("projects", () => {
  on("projects=many", "search from eight projects on", async (page) => {
    const search = page.getByRole("searchbox", { name: "Search projects" });
    await search.fill("bench");
    await row(page, "notes").waitFor({ state: "detached" });
    await row(page, "benchmarks").waitFor();
    await search.fill("no such");
    await page.getByText("No project named ‘no such’.").waitFor();
    await search.fill("notes");
    await search.press("Enter");
    await page.getByRole("heading", { name: "notes", level: 1 }).waitFor();
  });

  on("", "no search for a few", async (page) => {
    await row(page, "notes").waitFor();
    assert.equal(await page.getByRole("searchbox").count(), 0);
  });

  on("open=warm", "the menu of a row: resume, settings, forget", async (page) => {
    await choose(page, "More about notes", "Resume Conversation");
    await terminalShows(page, "pretends");
    assert.equal((await calls(page, "open"))[0][1].start, "resume");
    await choose(page, "More about data-pipeline", "Open Settings");
    await page.getByText("Settings of data-pipeline").waitFor();
    await choose(page, "More about data-pipeline", "Forget");
    await row(page, "data-pipeline").waitFor({ state: "detached" });
    await choose(page, "More about api", "Stop Session…");
    await button(page, "Stop Session").click();
    await page.waitForFunction(() => window.__rccFake.calls.some(([call, id]) => call === "stop" && id === "0000000000000002"));
  });

  on("", "what was never opened cannot be resumed", async (page) => {
    await row(page, "data-pipeline").click();
    await button(page, "Open in Sandbox").waitFor();
    assert.equal(await button(page, "Resume Conversation").count(), 0);
    await row(page, "notes").click();
    await button(page, "Resume Conversation").waitFor();
  });

  on("", "a menu goes by the keyboard and gives the focus back", async (page) => {
    await button(page, "More about notes").focus();
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.activeElement.textContent.includes("Resume"));
    await page.keyboard.press("ArrowDown");
    await page.waitForFunction(() => document.activeElement.textContent.includes("Open Settings"));
    await page.keyboard.press("End");
    await page.waitForFunction(() => document.activeElement.textContent.includes("Forget"));
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => document.activeElement.getAttribute("aria-label") === "More about notes");
    await row(page, "notes").waitFor();
  });

  on("open=warm&projects=many", "the switcher goes by letters and arrows", async (page) => {
    await row(page, "notes").waitFor();
    await page.keyboard.press("Control+K");
    await page.keyboard.type("docs");
    assert.equal(await page.getByRole("option").count(), 2);
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "docs", level: 1, exact: true }).waitFor();
    await page.keyboard.press("Control+K");
    await page.keyboard.type("zzz");
    await page.getByText("No project named ‘zzz’.").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
  });

  on("open=warm", "the next that needs you", async (page) => {
    await opened(page);
    await page.keyboard.press("Control+Shift+U");
    await page.getByRole("heading", { name: "web-shop", level: 1 }).waitFor();
  });

  on("open=warm", "back goes where the person was", async (page) => {
    await row(page, "notes").click();
    await tab(page, "Settings").click();
    await page.getByText("Settings of notes").waitFor();
    await tab(page, "Settings").focus();
    await page.keyboard.press("Alt+ArrowLeft");
    await button(page, "Open in Sandbox").waitFor();
  });
});

describe("project settings and resources", () => {
  on("open=warm", "the permission switch, and that it counts later", async (page) => {
    await opened(page);
    await tab(page, "Settings").click();
    await page.getByRole("switch", { name: "Claude may act without asking" }).click();
    await page.getByText("counts from the next one on").waitFor();
    assert.equal((await calls(page, "saveProjectSettings"))[0][2].actAlone, false);
  });

  on("open=warm", "namespaces of a program's own are off until a person switches them on", async (page) => {
    await row(page, "notes").click();
    await tab(page, "Settings").click();
    const own = page.getByRole("switch", { name: "Programs may build sandboxes of their own" });
    assert.equal(await own.isChecked(), false);
    await own.click();
    await page.getByRole("switch", { name: "Programs may build sandboxes of their own", checked: true }).waitFor();
    assert.equal((await calls(page, "saveProjectSettings"))[0][2].userNamespaces, true);
  });

  on("open=warm", "limits: default shown, set, refused, default again", async (page) => {
    await row(page, "notes").click();
    await tab(page, "Settings").click();
    await page.getByText("Default: 8 GB").waitFor();
    const last = async () => (await calls(page, "saveProjectSettings")).at(-1)?.[2];
    const memory = page.getByRole("spinbutton", { name: /Memory/ });
    await memory.fill("12");
    await memory.blur();
    await page.getByText("The default is 8 GB").waitFor();
    assert.equal((await last()).memory, 12 * 1024 ** 3);
    await memory.fill("0");
    await memory.blur();
    await page.getByText("At least 0.5 GB.").waitFor();
    assert.equal((await last()).memory, 12 * 1024 ** 3);
    await button(page, "Default for Memory").click();
    await page.getByText("Default: 8 GB").waitFor();
    assert.equal((await last()).memory, null);
    // Nothing runs: nothing has to wait.
    assert.equal(await page.getByText("counts from the next one on").count(), 0);
  });

  on("open=warm", "image and packages, also the offered ones", async (page) => {
    await row(page, "notes").click();
    await tab(page, "Settings").click();
    const last = async () => (await calls(page, "saveProjectSettings")).at(-1)?.[2];
    await page.getByLabel("What is in the sandbox").selectOption("small");
    assert.equal((await last()).image, "small");
    await page.getByLabel("What is in the sandbox").selectOption("own");
    await page.getByLabel("Name of the image").fill("debian:trixie");
    await page.getByLabel("Name of the image").blur();
    assert.equal((await last()).image, "debian:trixie");
    await page.getByText("golang-go, gopls, because of go.mod").waitFor();
    await page.locator(".offer", { hasText: "go.mod" }).getByRole("button", { name: "Add" }).click();
    await page.getByText("golang-go, gopls, because of go.mod").waitFor({ state: "detached" });
    await page.getByLabel("Package to add").fill("jq ffmpeg");
    await page.keyboard.press("Enter");
    assert.deepEqual((await last()).packages, ["ffmpeg", "golang-go", "gopls", "jq"]);
    await button(page, "Take out ffmpeg").click();
    assert.deepEqual((await last()).packages, ["golang-go", "gopls", "jq"]);
  });

  on("open=warm", "resources against their limits, again and again", async (page) => {
    await opened(page);
    await page.locator("footer").getByText(/memory 1\.\d GB of 8 GB/).waitFor();
    await tab(page, "Resources").click();
    await page.getByText(/1\.\d GB of 8 GB/).last().waitFor();
    const meter = page.getByRole("meter", { name: "Processor" });
    assert.equal(await meter.getAttribute("max"), "7");
    const first = await meter.getAttribute("value");
    await page.waitForFunction((old) => document.querySelector("meter[aria-label=Processor]").getAttribute("value") !== old, first);
  });

  on("open=warm&limits=none", "where limits are not held it says so in words", async (page) => {
    await opened(page);
    await tab(page, "Resources").click();
    await page.getByText("Limits are not held.").waitFor();
    await page.getByText("no version 2 control groups").waitFor();
    assert.equal(await page.getByRole("meter").count(), 0);
    await page.locator("footer").getByText(/no limit/).waitFor();
  });
});

describe("shield", () => {
  on("open=warm", "four walls, each with its sentence and layer", async (page) => {
    await opened(page);
    await button(page, "Protected").click();
    const walls = page.getByRole("dialog", { name: "Walls of this sandbox" });
    assert.equal(await walls.getByRole("listitem").count(), 4);
    await walls.getByText("Only allowed hosts can be reached.").waitFor();
    await walls.getByText("seccomp, AppArmor").waitFor();
    await page.keyboard.press("Escape");
    await walls.waitFor({ state: "hidden" });
  });

  on("open=warm&limits=none", "with notes", async (page) => {
    await opened(page);
    await button(page, "Protected, with notes").click();
    await page.getByText("This computer cannot hold limits for your user.").waitFor();
  });

  on("open=warm&walls=open", "not protected", async (page) => {
    await opened(page);
    await button(page, "Not protected").click();
    await page.getByText("There is no seccomp on this computer.").waitFor();
  });
});

describe("setup", () => {
  on("setup=bare&projects=none&speed=2", "each line with its one button; slow ones side by side; it ends by itself", async (page) => {
    await page.getByText("Before the first sandbox").waitFor();
    assert.equal(await button(page, "Open Folder…").last().isDisabled(), true);
    await page.getByRole("button", { name: /^Build/ }).click();
    await page.getByRole("button", { name: /^Download/ }).click();
    await page.locator("[data-setup=image] progress").waitFor();
    await page.locator("[data-setup=claude] progress").waitFor();
    await page.locator("[data-setup=claude]").getByRole("button", { name: "Cancel" }).click();
    await page.getByRole("button", { name: /^Download/ }).click();
    await page.locator("[data-setup=image]", { hasText: "ready" }).waitFor();
    // What needs root is a command to copy, and a look afterwards.
    await page.locator("[data-setup=firewall]").getByRole("button", { name: "Look Again" }).waitFor();
    await page.locator("[data-setup=firewall]").getByText("sudo systemctl start rcc-firewall.service").waitFor();
    await page.locator("[data-setup=claude]", { hasText: "ready" }).waitFor();
    // The id range only the person can mend: the command is there to copy.
    await button(page, "Copy the command").first().click();
    assert.match((await calls(page, "copy"))[0][1], /usermod --add-subuids/);
    await page.evaluate(() => window.__rccFake.mended());
    await page.evaluate(() => window.dispatchEvent(new Event("blur")));
    await page.evaluate(() => window.dispatchEvent(new Event("focus")));
    await page.getByText("Everything is ready.").waitFor();
    await page.getByRole("main").getByRole("button", { name: "Open Folder…" }).click();
    await page.getByRole("heading", { name: "new-idea", level: 1 }).waitFor();
  });

  on("", "what is there is brought up to date in the settings, and what came of it is said", async (page) => {
    await goto(page, "#/settings/image");
    const image = page.locator("[data-setup=image]");
    const claude = page.locator("[data-setup=claude]");
    await image.getByRole("button", { name: "Build Again" }).click();
    await image.getByText("Unpacking base-files").waitFor();
    await image.getByRole("button", { name: "Cancel" }).click();
    await image.getByText("built 3 days ago").waitFor();
    await image.getByRole("button", { name: "Build Again" }).click();
    await image.getByText("built today").waitFor();
    await page.getByText("The image is built again; new sessions use it.").waitFor();
    await claude.getByRole("button", { name: "Look for a Newer One" }).click();
    await page.getByText("Claude Code 2.1.331 is there; new sessions use it.").waitFor();
    await claude.getByRole("button", { name: "Look for a Newer One" }).click();
    await page.getByText("Claude Code 2.1.331 is the newest.").waitFor();
    assert.deepEqual((await calls(page, "renew")).map(([, id]) => id), ["image", "image", "claude", "claude"]);
    assert.deepEqual(await calls(page, "mend"), []);
  });

  on("renew=fails", "what could not be brought up to date says why, and what was there stays", async (page) => {
    await goto(page, "#/settings/image");
    const image = page.locator("[data-setup=image]");
    await image.getByRole("button", { name: "Build Again" }).click();
    await image.getByRole("alert").getByText("The disk is full.").waitFor();
    await image.getByText("built 3 days ago").waitFor();
    await image.getByRole("button", { name: "Try Again" }).waitFor();
  });

  on("setup=bare&projects=none&speed=20&mend=fails", "what fails says why, and can be tried again", async (page) => {
    await page.getByRole("button", { name: /^Build/ }).click();
    await page.locator("[data-setup=image]").getByRole("alert").getByText("The disk is full.").waitFor();
    await page.locator("[data-setup=image]").getByRole("button", { name: "Try Again" }).waitFor();
  });

  on("", "not shown where nothing is missing", async (page) => {
    await page.getByText("or drop one here").waitFor();
  });
});

describe("settings", () => {
  on("open=warm", "the theme changes page and terminal at once", async (page) => {
    await opened(page);
    const colours = () =>
      page.evaluate(() => [
        getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.querySelector(".xterm-rows")).color,
      ]);
    const before = await colours();
    await page.keyboard.press("F6");
    await page.keyboard.press("Control+,");
    await page.getByLabel("Colours").selectOption("dark");
    assert.equal((await saved(page)).theme, "dark");
    const after = await colours();
    assert.notEqual(after[0], before[0]);
    assert.notEqual(after[1], before[1]);
  }, { colorScheme: "light" });

  on("", "a setting changed elsewhere is shown", async (page) => {
    await goto(page, "#/settings/terminal");
    await page.getByText("13 px").waitFor();
    const settings = {
      theme: "system", fontSize: 20, programsMayCopy: true, scrollback: false, notifyNeedsYou: true,
      notifyBlocked: true, keepLogDays: 7, claudeTelemetry: false, closeHides: true,
    };
    await tell(page, { kind: "settings", settings });
    await page.getByText("20 px").waitFor();
    await button(page, "Larger").click();
    assert.equal((await saved(page)).fontSize, 21);
  });

  on("", "what is not saved goes back, and says why", async (page) => {
    await goto(page, "#/settings/notifications");
    const needs = page.getByRole("switch", { name: "Claude needs you" });
    await needs.waitFor();
    await page.evaluate(() => window.__rccFake.fail("saveSettings"));
    await needs.click();
    await page.getByRole("alert").getByText("The settings could not be saved.").waitFor();
    assert.equal(await needs.isChecked(), true);
  });

  on("", "privacy, window, about", async (page) => {
    await goto(page, "#/settings/general");
    await page.getByLabel("Keep names of hosts").selectOption("0");
    assert.equal((await saved(page)).keepLogDays, 0);
    await page.getByRole("switch", { name: "Claude Code may send telemetry" }).click();
    assert.equal((await saved(page)).claudeTelemetry, true);
    await page.getByRole("switch", { name: "Closing the window hides it" }).click();
    assert.equal((await saved(page)).closeHides, false);
    await goto(page, "#/settings/about");
    await page.getByText("Podman 5.4.2").waitFor();
    await button(page, "Copy").click();
    assert.match((await calls(page, "copy"))[0][1], /Claude Code: 2\.1\.330/);
  });
});

describe("layers of packages", () => {
  const lines = (page) => page.getByRole("listitem").filter({ hasText: "rcc-dev-with" });
  const removed = async (page) => (await calls(page, "removeLayer")).map(([, name]) => name);

  on("", "one that nobody uses goes at once, another one asks first", async (page) => {
    await goto(page, "#/settings/image");
    await page.getByText("1300 MB, used 40 days ago").waitFor();
    await button(page, "Remove the layer of no project").click();
    await page.waitForFunction(() => window.__rccFake.calls.some(([call]) => call === "removeLayer"));
    await page.getByText("used 40 days ago").waitFor({ state: "detached" });
    assert.equal(await lines(page).count(), 1);

    const used = page.getByRole("button", { name: /^Remove the layer of .*web-shop/ });
    await used.click();
    await page.getByRole("dialog").getByText("installs the packages again").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    assert.equal((await removed(page)).length, 1);
    await used.click();
    await page.getByRole("dialog").getByRole("button", { name: "Remove", exact: true }).click();
    await page.getByText("None is kept.").waitFor();
    assert.equal((await removed(page)).length, 2);
  });

  on("", "one that a sandbox runs with stays, with the reason", async (page) => {
    await goto(page, "#/settings/image");
    await lines(page).first().waitFor();
    await page.evaluate(() => window.__rccFake.fail("removeLayer"));
    await button(page, "Remove the layer of no project").click();
    await page.getByText("stop that session and try again").waitFor();
    assert.equal(await lines(page).count(), 2);
  });

  on("layers=none", "and none", async (page) => {
    await goto(page, "#/settings/image");
    await page.getByText("None is kept.").waitFor();
  });
});

describe("quit and the tray", () => {
  on("", "quit asks while sessions run", async (page) => {
    await row(page, "api").waitFor();
    await page.keyboard.press("Control+Q");
    await page.getByRole("dialog").getByText("2 sessions keep running.").waitFor();
    await button(page, "Cancel").click();
    assert.deepEqual(await calls(page, "quit"), []);
    await tell(page, { kind: "quit", running: 1 });
    await page.getByText("1 session keeps running.").waitFor();
    await button(page, "Stop All and Quit").click();
    assert.deepEqual(await calls(page, "quit"), [["quit", true]]);
  });

  on("projects=none", "without sessions it quits at once", async (page) => {
    await page.getByText("or drop one here").waitFor();
    await page.keyboard.press("Control+Q");
    await page.waitForFunction(() => window.__rccFake.calls.some(([call]) => call === "quit"));
    assert.deepEqual(await calls(page, "quit"), [["quit", false]]);
  });

  on("", "closed for the first time: the note, while it can be read", async (page) => {
    await row(page, "api").waitFor();
    await tell(page, { kind: "hides" });
    await page.getByRole("dialog").getByText("rcc stays in the tray.").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    assert.deepEqual(await calls(page, "closeWindow"), []);
    await tell(page, { kind: "hides" });
    await button(page, "Hide").click();
    assert.deepEqual(await calls(page, "closeWindow"), [["closeWindow"]]);
  });

  on("", "the list of keys names both forms", async (page) => {
    await row(page, "api").waitFor();
    await page.keyboard.press("Control+?");
    const keys = page.getByRole("dialog", { name: "Keys" });
    await keys.getByText("Ctrl+Shift+K").waitFor();
    // One question at a time: no key opens another.
    await page.keyboard.press("Control+K");
    assert.equal(await page.getByRole("dialog").count(), 1);
    await page.keyboard.press("Escape");
    await keys.waitFor({ state: "detached" });
  });
});

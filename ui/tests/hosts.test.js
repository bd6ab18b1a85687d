import assert from "node:assert/strict";
import { describe } from "node:test";
import { button, calls, on, opened, tab, tell } from "./page.js";

const settings = (page) => page.evaluate(() => (location.hash = "#/settings/hosts"));
const line = (page, host) => page.locator("tbody tr", { hasText: host });
const name = (page) => page.getByLabel("Host name or address");

describe("allowed hosts", () => {
  on("open=warm", "a project without own hosts says so; one is added there", async (page) => {
    await opened(page);
    await tab(page, "Settings").click();
    await page.getByText("This project uses only the hosts allowed for all projects.").waitFor();
    await button(page, "Allow a Host…").click();
    // From the keyboard alone.
    await page.keyboard.type("cdn.example.org");
    await page.keyboard.press("Enter");
    await line(page, "cdn.example.org").waitFor();
    const [[, level, version, change]] = await calls(page, "changeHosts");
    assert.deepEqual(level, { level: "project", project: "0000000000000002" });
    assert.equal(version, "1");
    assert.deepEqual(change, {
      kind: "add", host: { target: "cdn.example.org", ports: "443", protocol: "tcp", private: false },
    });
  });

  on("", "mistakes are said at the field, while typing", async (page) => {
    await settings(page);
    await button(page, "Allow a Host…").click();
    // Nothing is blamed before it was touched.
    assert.equal(await page.getByRole("alert").count(), 0);
    await name(page).fill("https://example.org/");
    await page.getByText("Only the name, without “https://” and path.").waitFor();
    assert.equal(await name(page).getAttribute("aria-invalid"), "true");
    await name(page).fill("example.org");
    await page.waitForFunction(() => document.querySelector("[name=target]").getAttribute("aria-invalid") === "false");
    await page.getByLabel("Ports").fill("443, 0");
    await page.getByText("“0” is no port (1 to 65535).").waitFor();
    // And saving does not get past it.
    await button(page, "Allow").click();
    await page.waitForFunction(() => document.activeElement.name === "ports");
    assert.deepEqual(await calls(page, "changeHosts"), []);
    await name(page).fill("db.internal");
    await page.getByLabel("Ports").fill("5432");
    await page.getByText("it needs “May be private”").waitFor();
    await page.getByLabel("May be private").check();
    await button(page, "Allow").click();
    await line(page, "db.internal").getByText("may be private").waitFor();
  });

  on("", "edit in place, Esc changes nothing", async (page) => {
    await settings(page);
    await button(page, "Change registry.example.com").click();
    await name(page).fill("other.example.com");
    await page.keyboard.press("Escape");
    await line(page, "registry.example.com").waitFor();
    await button(page, "Change registry.example.com").click();
    await page.getByLabel("Ports").fill("80, 443");
    await button(page, "Save").click();
    await line(page, "80, 443").waitFor();
    const [[, , , change]] = await calls(page, "changeHosts");
    assert.equal(change.kind, "replace");
    assert.equal(change.old.ports, "443");
  });

  on("", "what was taken out comes back", async (page) => {
    await settings(page);
    await button(page, "Take out proxy.example.com").click();
    await page.getByText("proxy.example.com was taken out.").waitFor();
    assert.equal(await line(page, "proxy.example.com").count(), 0);
    await button(page, "Undo").click();
    await line(page, "proxy.example.com").waitFor();
  });

  on("", "changed elsewhere meanwhile: read again, and what was typed is kept", async (page) => {
    await settings(page);
    await button(page, "Allow a Host…").click();
    await name(page).fill("mine.example.org");
    await page.evaluate(() => window.__rccFake.touchHosts({ level: "allProjects" }, "theirs.example.org"));
    await button(page, "Allow").click();
    await page.getByText("This list was changed elsewhere meanwhile and was read again.").waitFor();
    await line(page, "theirs.example.org").waitFor();
    assert.equal(await name(page).inputValue(), "mine.example.org");
    await button(page, "Allow").click();
    await line(page, "mine.example.org").waitFor();
    await line(page, "theirs.example.org").waitFor();
  });

  on("", "a line that is edited may vanish elsewhere; what was typed is kept", async (page) => {
    await settings(page);
    await button(page, "Change proxy.example.com").click();
    await name(page).fill("proxy2.example.com");
    await page.evaluate(() => {
      window.__rccFake.untouchHosts({ level: "allProjects" }, "proxy.example.com");
      window.__rccFake.tell({ kind: "hosts", level: "allProjects" });
    });
    await page.getByText("What you typed is kept").waitFor();
    assert.equal(await name(page).inputValue(), "proxy2.example.com");
    await button(page, "Save").click();
    await line(page, "proxy2.example.com").waitFor();
    assert.equal((await calls(page, "changeHosts")).at(-1)[3].kind, "add");
  });

  on("", "a change told of is read", async (page) => {
    await settings(page);
    await line(page, "registry.example.com").waitFor();
    await page.evaluate(() => window.__rccFake.touchHosts({ level: "allProjects" }, "theirs.example.org"));
    await tell(page, { kind: "hosts", level: "allProjects" });
    await line(page, "theirs.example.org").waitFor();
  });

  on("", "this computer: presets, bounds, the password is announced, tunnels are marked", async (page) => {
    await settings(page);
    await button(page, "This computer").click();
    await line(page, "*.githubusercontent.com").getByText("tunnel possible").waitFor();
    await page.getByText("A change asks for the administrator's password.").waitFor();
    await page.getByText("Users may allow public hosts for their own projects, and none with a private address.").waitFor();
    assert.equal(await page.getByRole("radio", { name: /Balanced/ }).isChecked(), true);
    await page.getByRole("radio", { name: /Locked/ }).click();
    await page.waitForFunction(() => window.__rccFake.calls.some(([call]) => call === "changeHosts"));
    assert.deepEqual((await calls(page, "changeHosts"))[0][3], { kind: "preset", preset: "locked" });
  });

  on("", "a preset can be taken back, and is not chosen when the password was not given", async (page) => {
    await settings(page);
    await button(page, "This computer").click();
    const radio = (name) => page.getByRole("radio", { name });
    await radio(/Balanced/).waitFor();
    await page.evaluate(() => window.__rccFake.fail("changeHosts"));
    await page.getByText("Claude only.").click();
    await page.getByText("The administrator's password was not given.").waitFor();
    assert.equal(await radio(/Balanced/).isChecked(), true);
    assert.equal(await radio(/Locked/).isChecked(), false);
    await page.getByText("Claude only.").click();
    await page.getByText("The list is Locked now.").waitFor();
    assert.equal(await radio(/Locked/).isChecked(), true);
    await button(page, "Undo").click();
    await page.getByText("The list is Locked now.").waitFor({ state: "detached" });
    assert.equal(await radio(/Balanced/).isChecked(), true);
  });

  on("", "what was taken out comes back in its place, with what stood beside it", async (page) => {
    await settings(page);
    await button(page, "Take out registry.example.com").click();
    await button(page, "Undo").click();
    await line(page, "registry.example.com").getByText("npm").waitFor();
    const hosts = await page.locator("tbody tr th bdi").allInnerTexts();
    assert.deepEqual(hosts.map((host) => host.trim()), ["registry.example.com", "proxy.example.com"]);
    assert.deepEqual((await calls(page, "changeHosts")).at(-1)[3], { kind: "undo" });
  });

  on("hosts=many", "search", async (page) => {
    await settings(page);
    await page.getByRole("searchbox", { name: "Search hosts" }).fill("mirror-19");
    // 19 and 190 to 199.
    await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 11);
    await page.getByRole("searchbox", { name: "Search hosts" }).fill("nobody");
    await page.getByText("No host like ‘nobody’ on this level.").waitFor();
  });

  on("", "one project's list from the settings", async (page) => {
    await settings(page);
    await page.getByLabel("A project").selectOption({ label: "notes" });
    await page.getByText("This project uses only the hosts allowed for all projects.").waitFor();
  });
});

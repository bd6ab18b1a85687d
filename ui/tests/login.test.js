import assert from "node:assert/strict";
import { describe } from "node:test";
import { button, calls, on, opened, row, tab } from "./page.js";

const TOKEN = "sk-ant-oat01-0123456789abcdefghijklmnopqrstuvwxyz0123456789";

describe("login", () => {
  on("open=warm&login=offered", "one login for all projects, in words and by hand", async (page) => {
    await opened(page);
    await page.getByText("Use this login for all projects?").waitFor();
    await page.getByText("can read the token").waitFor();
    await button(page, "Use…").click();
    await page.waitForFunction(() => window.__rccFake.calls.some(([call, request]) => call === "open" && request.start === "login"));
    await tab(page, "Program 1").waitFor();
    await page.getByLabel("Token").fill("hello");
    await button(page, "Keep").click();
    await page.getByRole("alert").getByText("Copy the whole of it").waitFor();
    // It is never shown.
    assert.equal(await page.getByLabel("Token").getAttribute("type"), "password");
    await page.getByLabel("Token").fill(TOKEN);
    await page.keyboard.press("Enter");
    await page.getByLabel("Login for all projects").waitFor({ state: "detached" });
    assert.deepEqual((await calls(page, "keepLogin")).at(-1), ["keepLogin", TOKEN]);
    assert.doesNotMatch(await page.content(), /sk-ant-oat01-/);
  });

  on("open=warm&login=offered", "only here is not asked again, in that project", async (page) => {
    await opened(page);
    await button(page, "Only Here").click();
    await page.getByText("Use this login for all projects?").waitFor({ state: "detached" });
    assert.deepEqual(await calls(page, "loginStaysHere"), [["loginStaysHere", "0000000000000002"]]);
    await row(page, "web-shop").click();
    await page.getByText("Use this login for all projects?").waitFor();
  });

  on("open=warm", "in the settings it is added and forgotten", async (page) => {
    await page.evaluate(() => (location.hash = "#/settings/general"));
    await page.getByText("None is kept: Claude asks once in each project.").waitFor();
    await button(page, "Add…").click();
    await page.getByText("claude setup-token").waitFor();
    await page.keyboard.type(TOKEN);
    await button(page, "Keep").click();
    await page.getByText("A token is kept in this computer's keyring.").waitFor();
    await button(page, "Forget").click();
    await page.getByText("None is kept").waitFor();
  });

  on("open=warm&login=none&linger=none", "without a keyring or a login service nothing is offered", async (page) => {
    await page.evaluate(() => (location.hash = "#/settings/general"));
    await page.getByText("There is no keyring on this computer").waitFor();
    assert.equal(await button(page, "Add…").count(), 0);
    assert.equal(await page.getByRole("switch", { name: "Sessions go on after logging out" }).count(), 0);
  });

  on("open=warm", "a project can keep to its own login", async (page) => {
    await opened(page);
    await tab(page, "Settings").click();
    await page.getByRole("switch", { name: "Claude uses the login of all projects" }).click();
    assert.equal((await calls(page, "saveProjectSettings")).at(-1)[2].ownLogin, true);
  });

  on("open=warm", "logging out ends sandboxes: said where one quits, changed in the settings", async (page) => {
    await row(page, "api").waitFor();
    await page.keyboard.press("Control+Q");
    await page.getByRole("dialog").getByText("Logging out ends them, too").waitFor();
    await page.keyboard.press("Escape");
    await page.evaluate(() => (location.hash = "#/settings/general"));
    await page.getByRole("switch", { name: "Sessions go on after logging out" }).click();
    assert.deepEqual(await calls(page, "setLinger"), [["setLinger", true]]);
    await page.keyboard.press("Control+Q");
    await page.getByRole("dialog").waitFor();
    await page.waitForTimeout(150);
    assert.equal(await page.getByText("Logging out ends them, too").count(), 0);
  });

  on("open=warm", "what a folder's files suggest is offered before it is opened", async (page) => {
    await row(page, "notes").click();
    await page.getByText("There is a go.mod: add golang-go, gopls to the sandbox?").waitFor();
    await page.getByText("go.mod").locator("..").locator("..").getByRole("button", { name: "Add" }).click();
    await page.getByText("There is a go.mod").waitFor({ state: "detached" });
    assert.deepEqual((await calls(page, "saveProjectSettings")).at(-1)[2].packages, ["ffmpeg", "golang-go", "gopls"]);
    await page.getByText("There is a docker-compose.yml").waitFor();
  });

  on("open=warm", "the walls are looked at again by a click", async (page) => {
    await opened(page);
    await button(page, "Protected").click();
    await page.getByText("Checked just now").waitFor();
    await button(page, "Check Now").click();
    await page.getByText("3 ways out were tried, and none led out.").waitFor();
    await page.getByText("What was tried").click();
    await page.getByText("Other sandboxes are out of reach").waitFor();
    assert.deepEqual(await calls(page, "verify"), [["verify", "0000000000000002"]]);
  });

  on("open=warm&verify=open", "a way out that is open is said first, and in the header", async (page) => {
    await opened(page);
    await button(page, "Protected").click();
    await button(page, "Check Now").click();
    await page.getByText("1 way out of the sandbox is open. Stop the session.").waitFor();
    assert.match(await page.locator(".tried li").first().innerText(), /Hosts that are not allowed are out of reach/);
    await page.locator("button.shield", { hasText: "Not protected" }).waitFor();
  });

  on("open=warm&walls=open", "a wall that is open is in the header", async (page) => {
    await opened(page);
    await button(page, "Not protected").click();
    await page.getByText("There is no seccomp on this computer.").waitFor();
  });

  on("open=warm&walls=unknown", "what cannot be asked is not called protected", async (page) => {
    await opened(page);
    await button(page, "Not known").click();
    await page.getByRole("alert").getByText("Podman is not installed.").waitFor();
  });

  on("open=warm", "sandboxes can be let go on where one quits", async (page) => {
    await row(page, "api").waitFor();
    await page.keyboard.press("Control+Q");
    await button(page, "Let Them Go On After Logging Out").click();
    await page.getByText("Logging out ends them, too").waitFor({ state: "detached" });
    assert.deepEqual(await calls(page, "setLinger"), [["setLinger", true]]);
    await button(page, "Keep Running and Quit").waitFor();
  });
});

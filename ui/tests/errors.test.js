import assert from "node:assert/strict";
import { describe } from "node:test";
import { button, calls, on, row, terminalShows } from "./page.js";

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
    await button(page, "Fix…").click();
    await page.locator("[data-setup=firewall]").waitFor();
    await page.goBack();
    await button(page, "Start Offline").click();
    await terminalShows(page, "pretends");
    await page.getByText("Offline", { exact: true }).waitFor();
  });

  on("open=no-podman&speed=4", "without an engine: set up, try again, close", async (page) => {
    await row(page, "notes").click();
    await button(page, "Open in Sandbox").click();
    await page.getByRole("alert").getByText("Podman is not installed.").waitFor();
    assert.match(await page.locator(".steps").innerText(), /Engine\s+failed/);
    await button(page, "Set Up…").click();
    await page.locator("[data-setup=engine]").waitFor();
    await page.goBack();
    await button(page, "Close").click();
    await button(page, "Open in Sandbox").waitFor();
  });

  on("choose=home", "a folder that is refused", async (page) => {
    await page.getByRole("navigation", { name: "Projects" }).getByRole("button", { name: /Open Folder/ }).click();
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

import assert from "node:assert/strict";
import { describe } from "node:test";
import { button, calls, on, opened, row, run, tab, tell, terminalShows } from "./page.js";

const API = "0000000000000002";

const line = (page, host) => page.locator("tbody tr", { hasText: host });

async function network(page) {
  await opened(page);
  await tab(page, "Network").click();
  await line(page, "api.anthropic.com").waitFor();
}

async function pick(page, host, item) {
  await line(page, host).getByRole("button").click();
  await page.getByRole("menuitem", { name: item, exact: true }).click();
}

describe("network page", () => {
  on("open=warm", "reached and blocked, why, how often, when", async (page) => {
    await network(page);
    assert.match(await line(page, "api.anthropic.com").innerText(), /203\.0\.113\.9\s+reached\s+212\s+just now/);
    assert.match(await line(page, "registry.example.org").innerText(), /blocked\s+Not on the list of allowed hosts\.\s+6/);
    assert.match(await line(page, "db.internal").innerText(), /db\.internal:5432[\s\S]*It has a private address\.[\s\S]*5 min ago/);
    assert.match(await line(page, "telemetry").innerText(), /blocked, not asked again/);
    // What no rule can open offers none.
    await line(page, "169.254.169.254").getByRole("button").click();
    await page.getByRole("menuitem").first().waitFor();
    assert.deepEqual(await page.getByRole("menuitem").allInnerTexts(), ["Never Ask Again", "Copy Name"]);
  });

  on("open=warm&network=none", "empty, then live", async (page) => {
    await opened(page);
    await tab(page, "Network").click();
    await page.getByText("Nothing has been reached or blocked yet.").waitFor();
    await tab(page, "Claude").click();
    await run(page, "block new.example.org");
    await tab(page, "Network").click();
    await line(page, "new.example.org").waitFor();
  });

  on("open=warm&network=none", "a line arrives while the page is looked at", async (page) => {
    await opened(page);
    await run(page, "");
    await tab(page, "Network").click();
    await page.getByText("Nothing has been reached").waitFor();
    await page.evaluate(() => window.__rccFake.block("0000000000000002", "live.example.org"));
    await line(page, "live.example.org").waitFor();
  });

  on("open=warm", "filter by name, address and outcome", async (page) => {
    await network(page);
    const hosts = () => page.locator("tbody .host").allInnerTexts();
    await page.getByRole("searchbox", { name: "Filter hosts" }).fill("2001:db8");
    assert.deepEqual(await hosts(), ["objects.example.net"]);
    await page.getByRole("searchbox", { name: "Filter hosts" }).fill("");
    await button(page, "Reached").click();
    assert.equal((await hosts()).length, 3);
    await button(page, "Blocked").click();
    await page.getByRole("searchbox", { name: "Filter hosts" }).fill("nobody");
    await page.getByText("No host like ‘nobody’ here.").waitFor();
  });

  for (const [item, scope] of [
    ["Allow for 10 Minutes", "tenMinutes"],
    ["Allow for This Session", "session"],
    ["Allow for This Project", "project"],
    ["Allow for All My Projects", "allProjects"],
  ]) {
    on("open=warm", item, async (page) => {
      await network(page);
      await pick(page, "registry.example.org", item);
      await line(page, "registry.example.org").getByText("reached").waitFor();
      const [[, request]] = await calls(page, "allow");
      assert.deepEqual(request, {
        project: API, target: "registry.example.org", port: 0, protocol: "tcp", private: false, scope,
      });
    });
  }

  on("open=warm", "what the administrator does not let says why, and the line stays", async (page) => {
    await network(page);
    await pick(page, "db.internal", "Allow for This Project");
    await page.getByRole("alert").getByText("The administrator allows only public hosts here.").waitFor();
    await line(page, "db.internal").getByText("blocked").waitFor();
    assert.equal((await calls(page, "allow"))[0][1].private, true);
  });

  on("open=warm", "never ask again takes the question away, and back", async (page) => {
    await opened(page);
    await run(page, "block noisy.example.org");
    await button(page, "More…").click();
    // The bar leads to its line.
    await page.waitForFunction(() => document.activeElement.closest("tr")?.textContent.includes("noisy.example.org"));
    await pick(page, "noisy.example.org", "Never Ask Again");
    await line(page, "noisy.example.org").getByText("not asked again").waitFor();
    assert.deepEqual((await calls(page, "neverAsk"))[0].slice(2), ["noisy.example.org", true]);
    await tab(page, "Claude").click();
    assert.equal(await page.getByRole("status", { name: "Blocked host" }).count(), 0);
    await tab(page, "Network").click();
    await pick(page, "noisy.example.org", "Ask Again");
    await line(page, "noisy.example.org").getByText("not asked again").waitFor({ state: "detached" });
  });

  on("open=warm", "disconnect and connect, by button and by key", async (page) => {
    await network(page);
    await button(page, "Disconnect Network").click();
    await page.locator("header").getByText("Network disconnected").waitFor();
    await button(page, "Connect Network").click();
    await button(page, "Disconnect Network").waitFor();
    await tab(page, "Claude").click();
    await terminalShows(page, "pretends");
    await page.keyboard.press("Control+Shift+D");
    await page.locator("header").getByText("Network disconnected").waitFor();
    assert.deepEqual((await calls(page, "setNetwork")).map(([, , on]) => on), [false, true, false]);
  });

  on("open=warm", "open to the internet asks, counts down, and closes at once", async (page) => {
    await network(page);
    await button(page, "Open to the Internet for 5 Minutes…").click();
    await page.getByRole("dialog").getByText("Claude can then reach every public host").waitFor();
    await button(page, "Cancel").click();
    assert.deepEqual(await calls(page, "openInternet"), []);
    await button(page, "Open to the Internet for 5 Minutes…").click();
    await button(page, "Open for 5 Minutes").click();
    const shield = page.locator("header").getByRole("button", { name: /Open to the internet, / });
    await shield.waitFor();
    const first = await shield.innerText();
    assert.match(first, /[45]:\d\d/);
    assert.doesNotMatch(await page.locator("footer").innerText(), /Behind the firewall/);
    await page.waitForFunction((old) => document.querySelector("header .shield").innerText !== old, first);
    await button(page, "Close Now").click();
    await button(page, "Protected").waitFor();
    await page.locator("footer").getByText("Behind the firewall").waitFor();
    assert.deepEqual((await calls(page, "openInternet")).map(([, , seconds]) => seconds), [300, 0]);
  });

  on("open=warm&projects=many", "looking takes the count of blocked hosts away", async (page) => {
    await row(page, "docs-site").getByText("3 blocked").waitFor();
    await row(page, "docs-site").click();
    await tab(page, "Network").click();
    await row(page, "docs-site").getByText("3 blocked").waitFor({ state: "detached" });
  });

  on("open=warm", "a notification leads to the network page of its project", async (page) => {
    await row(page, "api").waitFor();
    await tell(page, { kind: "show", project: API, page: "network" });
    await line(page, "api.anthropic.com").waitFor();
    await page.goBack();
    await page.getByText("or drop one here").waitFor();
  });

  on("open=warm&network=many", "five hundred lines are quick to filter", async (page) => {
    await network(page);
    assert.equal(await page.locator("tbody tr").count(), 500);
    const begun = Date.now();
    await page.getByRole("searchbox", { name: "Filter hosts" }).fill("host-49");
    await page.waitForFunction(() => document.querySelectorAll("tbody tr").length < 20);
    assert.ok(Date.now() - begun < 1000, `${Date.now() - begun} ms`);
  });
});

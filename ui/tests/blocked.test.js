import assert from "node:assert/strict";
import { describe } from "node:test";
import { calls, on, row, run, terminalShows } from "./page.js";

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
      scope: "project",
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

  on("open=warm", "a request to the administrator is there to copy", async (page) => {
    await row(page, "api").click();
    await terminalShows(page, "pretends");
    await run(page, "block db.internal");
    await page.keyboard.press("Control+Shift+A");
    await page.getByRole("button", { name: "Copy Request" }).click();
    const [[, text]] = await calls(page, "copy");
    assert.match(text, /under "whitelist:"\n  - host: "db.internal"\n    ports: \[5432\]\n    private: true\n$/);
  });

  on("open=warm", "what was allowed elsewhere asks no more, nor what has ended", async (page) => {
    await row(page, "api").click();
    await terminalShows(page, "pretends");
    const bar = page.getByRole("status", { name: "Blocked host" });
    await run(page, "block one.example.org");
    await run(page, "block two.example.org");
    await bar.getByText("1 more").waitFor();
    await page.evaluate(() => window.__rccFake.allowElsewhere("0000000000000002", "two.example.org"));
    await bar.getByText("one.example.org").waitFor();
    assert.equal(await bar.getByText("1 more").count(), 0);
    await page.evaluate(() => window.__rccFake.lose("0000000000000002"));
    await bar.waitFor({ state: "detached" });
  });

  on("open=warm", "what has no port cannot be allowed, and says so", async (page) => {
    await row(page, "api").click();
    await terminalShows(page, "pretends");
    await page.evaluate(() =>
      window.__rccFake.tell({
        kind: "blocked", project: "0000000000000002", target: "203.0.113.7", port: 0, protocol: "icmp", reason: "not-allowed",
      }),
    );
    const bar = page.getByRole("status", { name: "Blocked host" });
    await bar.getByText("203.0.113.7 by icmp").waitFor();
    await bar.getByText("Rules are for TCP and UDP.").waitFor();
    assert.equal(await bar.getByRole("button", { name: "Allow for This Project" }).count(), 0);
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

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

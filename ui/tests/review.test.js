import assert from "node:assert/strict";
import { describe } from "node:test";
import { button, calls, on, opened, tab } from "./page.js";

const API = "0000000000000002";

const bar = (page) => page.getByRole("status", { name: "Changed files" });
const entry = (page, path) => page.locator("li", { hasText: path });

async function reviewed(page) {
  await opened(page);
  await button(page, "Review").click();
  await page.getByRole("heading", { name: "Review" }).waitFor();
}

describe("review of files that the computer would run", () => {
  on("open=warm", "nothing changed: no bar, no tab; a hook is told at once", async (page) => {
    await opened(page);
    assert.equal(await bar(page).count() + (await tab(page, "Review").count()), 0);
    await page.evaluate((id) => window.__rccFake.hook(id), API);
    await bar(page).waitFor();
    assert.match(await bar(page).innerText(), /1 file that your computer would run was changed\./);
    await button(page, "Review").click();
    await page.getByText("Git would run this at the next commit.").waitFor();
    assert.equal(await bar(page).count(), 0);
  });

  on("open=warm&review=some", "what, why, and its lines as text", async (page) => {
    await opened(page);
    assert.match(await bar(page).innerText(), /3 files that your computer would run were changed\./);
    await reviewed(page);
    assert.deepEqual(
      await page.getByRole("list", { name: "Your computer would run these" }).locator(".path").allInnerTexts(),
      [".git/config changed", ".git/hooks/pre-commit new", ".vscode/tasks.json removed"],
    );
    assert.deepEqual(await page.getByRole("list", { name: "Part of a build" }).locator(".path").allInnerTexts(), ["package.json changed"]);
    assert.deepEqual(await page.getByRole("list", { name: "Links out of the project" }).locator(".path").allInnerTexts(), ["shared new"]);
    await button(page, "Show what changed in .git/config").click();
    const lines = page.getByRole("region", { name: "What changed in .git/config" });
    await lines.waitFor();
    // The agent wrote it: it is text, and nothing of it is carried out.
    assert.match(await lines.innerText(), /fsmonitor = <img src=x onerror=alert\(5\)>/);
    assert.equal(await lines.locator("img").count(), 0);
    await button(page, "Hide what changed in .git/config").click();
    assert.equal(await lines.count(), 0);
    await button(page, "Show what changed in .vscode/tasks.json").click();
    await page.getByText("Its content is no text").waitFor();
  });

  on("open=warm&review=some", "keep, put back, undo; one, and all", async (page) => {
    await reviewed(page);
    await button(page, "Keep .git/config").click();
    await page.getByText("Kept: 1 file").waitFor();
    assert.deepEqual((await calls(page, "reviewKeep"))[0].slice(1), [API, ["a1b2c3d4e5f6"]]);
    assert.equal(await entry(page, ".git/config").count(), 0);
    // What cannot be put back offers none.
    assert.equal(await button(page, "Put Back .vscode/tasks.json").count(), 0);
    await button(page, "Put Back .git/hooks/pre-commit").click();
    await entry(page, "pre-commit").waitFor({ state: "detached" });
    await button(page, "Undo").click();
    await entry(page, "pre-commit").waitFor();
    await button(page, "Put All Back: Your computer would run these").click();
    await page.getByText("As before: 1 file").waitFor();
    assert.deepEqual((await calls(page, "reviewPutBack")).at(-1)[2], ["b1b2c3d4e5f6"]);
    await button(page, "Keep .vscode/tasks.json").click();
    await button(page, "Keep package.json").click();
    await button(page, "Keep shared").click();
    await page.getByText("Nothing changed that your computer would run.").waitFor();
    await tab(page, "Claude").click();
    assert.equal(await bar(page).count(), 0);
  });

  on("open=warm&review=some", "what changed again since it was shown is not kept", async (page) => {
    await reviewed(page);
    await page.evaluate((id) => window.__rccFake.changeAgain(id), API);
    await button(page, "Keep .git/config").click();
    await page.getByText("it is another one by now").waitFor();
    await entry(page, ".git/config").waitFor();
  });
});

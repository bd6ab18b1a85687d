import assert from "node:assert/strict";
import { describe } from "node:test";
import { button, calls, on, opened, row, tab, tell, terminalShows, terminalText } from "./page.js";

const drop = (page, files) => page.evaluate((what) => window.__rccFake.drop(what), files);

/** What the clipboard has besides text. */
const pasteNothing = (page) =>
  page.evaluate(() => {
    const event = new ClipboardEvent("paste", { clipboardData: new DataTransfer(), bubbles: true, cancelable: true });
    document.querySelector(".xterm-helper-textarea").dispatchEvent(event);
  });

describe("files on a terminal", () => {
  on("open=warm", "one of the project is typed as its path inside, quoted where it must be", async (page) => {
    await opened(page);
    await drop(page, [
      { name: "a.txt", inside: "/workspace/docs/a.txt" },
      { name: "it's b.txt", inside: "/workspace/it's b.txt" },
    ]);
    await terminalShows(page, "/workspace/docs/a.txt '/workspace/it'\\''s b.txt'");
    assert.equal(await page.getByRole("dialog").count(), 0);
    await page.keyboard.type("seen");
    await terminalShows(page, "b.txt' seen");
  });

  on("open=warm", "one from elsewhere is copied only when the person says so", async (page) => {
    await opened(page);
    await drop(page, [{ name: "plan.pdf", inside: null }]);
    await page.getByRole("dialog").getByText("Copy plan.pdf into the project?").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    assert.deepEqual(await calls(page, "copyDropped"), []);
    await drop(page, [{ name: "plan.pdf", inside: null }, { name: "b.png", inside: null }]);
    await page.getByRole("dialog").getByText("Copy 2 files into the project?").waitFor();
    await button(page, "Copy").click();
    await terminalShows(page, "/workspace/plan.pdf /workspace/b.png");
    await page.evaluate(() => window.__rccFake.fail("copyDropped"));
    await drop(page, [{ name: "plan.pdf", inside: null }]);
    await button(page, "Copy").click();
    await page.getByText("The disk is full.").waitFor();
  });

  on("open=warm", "without a terminal in sight it is said where files go", async (page) => {
    await row(page, "notes").click();
    await drop(page, [{ name: "plan.pdf", inside: null }]);
    await page.getByText("A file can be dropped on a terminal that runs").waitFor();
    await opened(page);
    await tab(page, "Network").click();
    await drop(page, [{ name: "plan.pdf", inside: "/workspace/plan.pdf" }]);
    await page.getByText("A file can be dropped on a terminal that runs").waitFor();
    assert.deepEqual(await calls(page, "write"), []);
  });

  on("open=warm", "what is held over the window is said", async (page) => {
    await opened(page);
    await tell(page, { kind: "dragging", over: true, files: true });
    await page.getByText("Type the file's path into the terminal").waitFor();
    await tell(page, { kind: "dragging", over: true, files: false });
    await page.getByText("Open this folder for Claude to work in").waitFor();
    await tell(page, { kind: "dragging", over: false, files: false });
    await page.getByText("Open this folder").waitFor({ state: "detached" });
  });

  on("open=warm&clipboard=image", "a picture is pasted as a path in the sandbox", async (page) => {
    await opened(page);
    await pasteNothing(page);
    await terminalShows(page, "/tmp/clipboard-1.png");
    await page.getByText("The picture is /tmp/clipboard-1.png in the sandbox").waitFor();
  });

  on("open=warm", "an empty clipboard pastes nothing", async (page) => {
    await opened(page);
    const before = await terminalText(page);
    await pasteNothing(page);
    await page.waitForTimeout(200);
    assert.equal((await calls(page, "pasteImage")).length, 1);
    assert.equal(await terminalText(page), before);
  });
});

/** What axe-core finds on a page, for a message that a person can read. */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const source = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** `more` is merged into axe-core's options. */
export async function violations(page, more = {}) {
  // Evaluated by the debugger: the policy of the page does not concern it.
  await page.evaluate(`${source}; 0`);
  const { violations: found } = await page.evaluate((options) =>
    // The cells of a terminal are xterm's, and their colours the program's.
    window.axe.run({ exclude: [".xterm"] }, { resultTypes: ["violations"], ...options }),
    more,
  );
  return found.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 160)} ${node.any[0]?.message ?? ""}`));
}

/** Keys of the window (PRODUCT 2.8). */

import type { WindowState } from "./lib/state/window.svelte";
import { canBeAllowed } from "./lib/state/blocked.svelte";

export function onKey(event: KeyboardEvent, state: WindowState): void {
  const inTerminal = event.target instanceof Element && event.target.closest(".xterm") !== null;
  const act = action(event, state, inTerminal);
  if (!act) return;
  event.preventDefault();
  event.stopPropagation();
  act();
}

function action(event: KeyboardEvent, state: WindowState, inTerminal: boolean): (() => void) | null {
  const key = event.key.toUpperCase();
  if (key === "F9") return () => (state.sidebar = !state.sidebar);
  if (key === "F6") return () => nextRegion(event.shiftKey);
  if (!event.ctrlKey || event.altKey || event.metaKey) return null;
  if (key === "O" && (event.shiftKey || !inTerminal)) return () => void state.chooseFolder();
  if (!event.shiftKey) return null;
  switch (key) {
    case "A":
      return () => allowLast(state);
    case "C":
      return () => state.sandbox?.copySelection();
    default:
      // Ctrl+Shift+V is the web view's own paste.
      return null;
  }
}

function allowLast(state: WindowState): void {
  const question = state.blocked.of(state.selected ?? "").at(-1);
  if (question && canBeAllowed(question)) void state.blocked.allow(question);
}

/** The sidebar, the header, the page: each is entered at its first control. */
function nextRegion(backwards: boolean): void {
  const regions = [...document.querySelectorAll<HTMLElement>("[data-region]")].filter(
    (region) => region.checkVisibility(),
  );
  const page = document.querySelector<HTMLElement>("main .page");
  if (page) regions.push(page);
  if (regions.length === 0) return;
  const at = regions.findIndex((region) => region.contains(document.activeElement));
  const next = at < 0 ? 0 : (at + (backwards ? regions.length - 1 : 1)) % regions.length;
  regions[next]?.querySelector<HTMLElement>("textarea, button:not([disabled])")?.focus();
}

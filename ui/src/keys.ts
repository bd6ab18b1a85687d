/** Keys of the window (PRODUCT 2.8): one table for the handler and for the list that Ctrl+? shows. */

import { isKept } from "./lib/terminal/kept";
import { canBeAllowed } from "./lib/state/blocked.svelte";
import type { WindowState } from "./lib/state/window.svelte";

interface Key {
  /** As the list shows it. */
  keys: string;
  /** What it is while a terminal has the focus, where that differs. */
  inTerminal?: string;
  words: string;
}

export const KEYS: { title: string; keys: Key[] }[] = [
  {
    title: "Window",
    keys: [
      { keys: "Ctrl+O", inTerminal: "Ctrl+Shift+O", words: "Open a folder" },
      { keys: "Ctrl+K", inTerminal: "Ctrl+Shift+K", words: "Go to a project" },
      { keys: "Ctrl+Shift+U", words: "Next project that needs you" },
      { keys: "F9", words: "Sidebar" },
      { keys: "F6", words: "Next region of the window" },
      { keys: "Alt+Left", words: "Back" },
      { keys: "Ctrl+,", words: "Settings" },
      { keys: "Ctrl+?", words: "This list" },
      { keys: "Ctrl+Q", words: "Quit" },
    ],
  },
  {
    title: "Terminals",
    keys: [
      { keys: "Ctrl+Shift+T", words: "New shell" },
      { keys: "Ctrl+Shift+N", words: "New Claude" },
      { keys: "Ctrl+Shift+W", words: "Close the terminal" },
      { keys: "Ctrl+PgUp, Ctrl+PgDn", words: "Terminal before, after" },
      { keys: "Alt+1 … Alt+9", words: "Terminal by its number" },
      { keys: "Ctrl+Shift+C, Ctrl+Shift+V", words: "Copy, paste" },
      { keys: "Ctrl+Shift+F", words: "Find" },
      { keys: "Ctrl++, Ctrl+−, Ctrl+0", inTerminal: "Ctrl+wheel", words: "Larger, smaller, usual letters" },
    ],
  },
  {
    title: "Network",
    keys: [
      { keys: "Ctrl+Shift+A", words: "Allow the last blocked host for this project" },
      { keys: "Ctrl+Shift+D", words: "Disconnect or connect the network" },
    ],
  },
];

export function onKey(event: KeyboardEvent, app: WindowState): void {
  const inTerminal = event.target instanceof Element && event.target.closest(".xterm") !== null;
  // A question in front of the window has the keys to itself, also a part's own.
  if ((inTerminal && !isKept(event)) || app.asked || document.querySelector("dialog[open]")) return;
  const act = action(event, app);
  if (!act) return;
  event.preventDefault();
  event.stopPropagation();
  act();
}

function action(event: KeyboardEvent, app: WindowState): (() => void) | null {
  const { key, ctrlKey, shiftKey, altKey, metaKey } = event;
  if (metaKey) return null;
  if (!ctrlKey && altKey && !shiftKey) {
    if (key === "ArrowLeft") return () => history.back();
    return /^[1-9]$/.test(key) ? () => tabNumber(app, Number(key) - 1) : null;
  }
  if (!ctrlKey && key === "F9") return () => app.toggleSidebar();
  if (!ctrlKey && key === "F6") return () => nextRegion(shiftKey);
  if (!ctrlKey || altKey) return null;
  return shiftKey ? withShift(key.toUpperCase(), app) : withControl(key.toUpperCase(), app);
}

function withControl(key: string, app: WindowState): (() => void) | null {
  switch (key) {
    case "O":
      return () => void app.chooseFolder();
    case "K":
      return () => (app.asked = { kind: "switcher" });
    case "Q":
      return () => app.quit();
    case ",":
      return () => app.go({ page: "settings", section: "general" });
    case "?":
      return () => (app.asked = { kind: "keys" });
    case "+":
    case "=":
      return () => app.settings.resizeFont(1);
    case "-":
      return () => app.settings.resizeFont(-1);
    case "0":
      return () => app.settings.resizeFont(0);
    case "PAGEUP":
      return () => nextTab(app, -1);
    case "PAGEDOWN":
      return () => nextTab(app, 1);
    default:
      return null;
  }
}

function withShift(key: string, app: WindowState): (() => void) | null {
  switch (key) {
    case "A":
      return () => allowLast(app);
    case "C":
      return () => app.sandbox?.current?.view?.copySelection();
    case "D":
      return () => toggleNetwork(app);
    case "F":
      return () => void app.find();
    case "N":
      return () => void app.open("new", false);
    case "T":
      return () => void app.open("shell", false);
    case "U":
      return () => nextThatNeedsYou(app);
    case "W":
      return () => {
        if (app.view === "terminal" && app.sandbox?.current) app.closeTab(app.sandbox.current);
      };
    case "?":
    case "/":
      return () => (app.asked = { kind: "keys" });
    case "+":
      return () => app.settings.resizeFont(1);
    case "O":
    case "K":
      return withControl(key, app);
    default:
      // Ctrl+Shift+V is the web view's own paste.
      return null;
  }
}

function tabNumber(app: WindowState, at: number): void {
  const tab = app.sandbox?.tabs[at];
  if (tab) void app.showTab(tab);
}

function nextTab(app: WindowState, by: number): void {
  const { sandbox } = app;
  if (!sandbox?.current) return;
  const { tabs } = sandbox;
  tabNumber(app, (tabs.indexOf(sandbox.current) + by + tabs.length) % tabs.length);
}

function nextThatNeedsYou(app: WindowState): void {
  const waiting = app.projects.filter((project) => project.session?.activity?.state === "needsYou");
  const at = waiting.findIndex((project) => project.id === app.selected);
  const next = waiting[(at + 1) % waiting.length];
  if (next) app.select(next.id);
  else app.say("Nobody needs you now.");
}

function allowLast(app: WindowState): void {
  const question = app.blocked.of(app.selected ?? "").at(-1);
  if (question && canBeAllowed(question)) void app.blocked.allow(question);
}

function toggleNetwork(app: WindowState): void {
  const { project } = app;
  if (!project?.session) return;
  void app.setNetwork(project.id, project.session.network !== "connected");
}

/** The sidebar, the header, the terminals, the page: each is entered at its first control. */
function nextRegion(backwards: boolean): void {
  const regions = [...document.querySelectorAll<HTMLElement>("[data-region]")].filter(
    (region) => region.checkVisibility() && first(region) !== undefined,
  );
  if (regions.length === 0) return;
  const at = regions.findIndex((region) => region.contains(document.activeElement));
  const next = at < 0 ? 0 : (at + (backwards ? regions.length - 1 : 1)) % regions.length;
  const region = regions[next];
  if (region) first(region)?.focus();
}

function first(region: HTMLElement): HTMLElement | undefined {
  const controls = region.querySelectorAll<HTMLElement>("textarea, [tabindex='0'], button:enabled, input:enabled, select:enabled");
  return [...controls].find((control) => control.checkVisibility() && control.tabIndex >= 0);
}

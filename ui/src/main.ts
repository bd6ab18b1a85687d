import { mount } from "svelte";
import App from "./App.svelte";
import { connect } from "./lib/backend";
import { WindowState } from "./lib/state/window.svelte";
import "@xterm/xterm/css/xterm.css";
import "./app.css";

const app = new WindowState(await connect());
const target = document.getElementById("app");
if (target) mount(App, { target, props: { app } });
await app.begin();

if (app.automation) {
  // For tests and measurements: what the terminal in sight shows, and the terminal itself.
  Object.assign(window, {
    __rccTerminalText: () => app.sandbox?.text() ?? "",
    __rccTerminal: () => app.sandbox?.current?.view ?? null,
  });
}

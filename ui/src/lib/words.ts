/** Words of the window (PRODUCT 1.3, 2.4). Codes come from the other side, words from here. */

import type { Activity, Blocked, NetworkWord, Preset, Project, StepWord } from "./backend/backend";

export const STEP_TITLES: Record<StepWord, string> = {
  checkFolder: "Check folder",
  engine: "Engine",
  image: "Image",
  claude: "Claude Code",
  startSandbox: "Start sandbox",
  connectNetwork: "Connect network",
  startProgram: "Start Claude",
};

export const NETWORK_WORDS: Record<NetworkWord, string> = {
  connected: "Behind the firewall",
  disconnected: "Network disconnected",
  offline: "Offline",
  unknown: "Firewall does not answer",
};

export const PRESETS: Record<Preset, { name: string; words: string }> = {
  open: { name: "Open", words: "The whole public internet; only private networks are blocked." },
  balanced: { name: "Balanced", words: "What Claude Code needs, GitHub, and the package registries of this computer." },
  locked: { name: "Locked", words: "Claude only." },
};

/** What Claude of a running session does. */
export function activityWords(activity: Activity | null, nowS: number): string {
  if (!activity) return "Running";
  switch (activity.state) {
    case "starting":
      return "Starting…";
    case "working":
      return "Working";
    case "needsYou":
      return activity.detail ? `Needs you: ${activity.detail}` : "Needs you";
    case "done":
      return activity.turns === 0 ? "Ready" : `Finished ${age(activity.since, nowS)}`;
    case "background":
      return "Working in the background";
    case "trouble":
      return activity.detail ?? "Trouble";
    case "ended":
      return "Ended";
  }
}

/** `just now`, `4 min ago`, `3 hours ago`, `2 days ago`. */
export function age(thenS: number, nowS: number): string {
  const minutes = Math.floor(Math.max(0, nowS - thenS) / 60);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return hours === 1 ? "1 hour ago" : `${hours} hours ago`;
  const days = Math.floor(hours / 24);
  return days === 1 ? "yesterday" : `${days} days ago`;
}

/** `4:31`, counted down. */
export function countdown(untilS: number, nowS: number): string {
  const left = Math.max(0, Math.ceil(untilS - nowS));
  return `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
}

/** The folder that the project is in. */
export function parentPath(project: Project): string {
  const at = project.path.lastIndexOf("/");
  return at > 0 ? project.path.slice(0, at) : "/";
}

/** `1.4 s`, `320 ms`. */
export function duration(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** `12 of 175 MB`, `12 MB`. */
export function amount(done: number, total: number | null): string {
  const mb = (bytes: number) => Math.round(bytes / 1e6).toString();
  return total === null ? `${mb(done)} MB` : `${mb(done)} of ${mb(total)} MB`;
}

/** Memory as people count it: `1.2 GB`, `340 MB`; a GB is 2³⁰ bytes. */
export function memory(bytes: number): string {
  const gigabytes = bytes / 1024 ** 3;
  if (gigabytes < 1) return `${Math.round(bytes / 1024 ** 2)} MB`;
  return `${gigabytes >= 10 ? Math.round(gigabytes) : Number(gigabytes.toFixed(1))} GB`;
}

/** `1 core`, `3 hosts`, `4,096 processes`. */
export function count(number: number, one: string, many = `${one}s`): string {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** Why a host is blocked, and nothing for the usual reason. */
export function blockedReason(blocked: Pick<Blocked, "reason">): string {
  switch (blocked.reason) {
    case "private":
      return "It has a private address.";
    case "never":
      return "No rule can open this address.";
    case "limit":
      return "More connections than one sandbox may have.";
    case "unnamed":
      return "It hid which server it wants: no name in its TLS hello, an encrypted one, or not TLS.";
    default:
      return "";
  }
}

/** The same for a line of the network page, which also says the usual. */
export function lineReason(reason: string | null): string {
  switch (reason) {
    case null:
      return "";
    case "not-allowed":
      return "Not on the list of allowed hosts.";
    case "disconnected":
      return "The network was disconnected.";
    default:
      return blockedReason({ reason }) || "The firewall refused it.";
  }
}

/** The administrator's bounds do not let a person allow it. */
export const OUT_OF_BOUNDS = "RCC-E505";

/** What a person can send to the administrator: the lines that are missing in the computer's list. */
export function requestText(blocked: Pick<Blocked, "target" | "port" | "protocol" | "reason">): string {
  const key = /^[0-9.]+$|:/.test(blocked.target) ? "ip" : "host";
  const lines = [`  - ${key}: ${JSON.stringify(blocked.target)}`, `    ports: [${blocked.port === 0 ? 443 : blocked.port}]`];
  if (blocked.protocol === "udp") lines.push("    protocol: udp");
  if (key === "host" && blocked.reason === "private") lines.push("    private: true");
  return [
    `Please let rcc's sandboxes reach ${blocked.target}: in /etc/rcc/network-whitelist.yaml, under "whitelist:"`,
    ...lines,
    "",
  ].join("\n");
}

/** What the pretended computer holds at first. */

import type {
  Activity,
  Layer,
  NetworkLine,
  PackageOffer,
  Project,
  ProjectSettings,
  Resources,
  Session,
  SetupLine,
  TerminalTab,
  Tried,
  Wall,
  WindowSettings,
} from "../backend";

export const GIB = 1024 ** 3;

export function seconds(): number {
  return Math.floor(Date.now() / 1000);
}

export function project(id: string, name: string, path: string, opened: number | null): Project {
  return { id, name, path, exists: true, opened, session: null, blocked: 0, resumable: opened !== null, changed: 0, changedBuild: 0, offerLogin: false };
}

export function session(activity: Activity, terminals: TerminalTab[] = []): Session {
  const claude: TerminalTab = { number: 1, kind: "claude", activity, exit: null };
  return { network: "connected", openUntil: null, image: "dev", activity, terminals: [claude, ...terminals] };
}

function few(now: number): Project[] {
  const asks = project("0000000000000001", "web-shop", "~/code/clients/a-rather-long-name/web-shop", now - 1200);
  asks.session = session(
    { state: "needsYou", detail: "Which database should the orders go to?", turns: 4, since: now - 90 },
    [{ number: 2, kind: "shell", activity: null, exit: null }],
  );
  const works = project("0000000000000002", "api", "~/code/api", now - 3600);
  works.session = session({ state: "working", detail: null, turns: 1, since: now - 20 });
  return [
    asks,
    works,
    project("0000000000000003", "notes", "~/notes", now - 2 * 86400),
    project("0000000000000004", "data-pipeline", "/srv/work/data-pipeline", null),
  ];
}

/** `none`, `few`, `gone`, `many`, `hostile`. */
export function projects(which: string): Project[] {
  const now = seconds();
  switch (which) {
    case "none":
      return [];
    case "gone":
      return [...few(now), { ...project("0000000000000005", "old-site", "~/old-site", now - 9e6), exists: false }];
    case "many": {
      const more = ["billing", "docs", "mobile-app", "infra", "design-system", "search", "benchmarks", "playground"];
      const done = project("0000000000000006", "docs-site", "~/code/docs-site", now - 400);
      done.session = session({ state: "done", detail: null, turns: 3, since: now - 240 });
      done.blocked = 3;
      const rest = more.map((name, at) => project(`00000000000001${10 + at}`, name, `~/code/${name}`, now - (at + 3) * 86400));
      return [...few(now), done, ...rest];
    }
    case "hostile": {
      const name = "<img src=x onerror=alert(1)>\u202egnp.exe";
      const odd = project("0000000000000007", name, `~/${name}`, now - 60);
      odd.session = session({ state: "needsYou", detail: "<script>alert(2)</script> {@html x}", turns: 1, since: now - 5 });
      return [odd, ...few(now)];
    }
    default:
      return few(now);
  }
}

export function networkLines(which: string): NetworkLine[] {
  const now = seconds();
  const line = (target: string, outcome: "reached" | "blocked", count: number, ago: number, more: Partial<NetworkLine> = {}) => ({
    target, address: null, port: 443, protocol: "tcp", outcome, reason: outcome === "blocked" ? "not-allowed" : null,
    count, last: now - ago, quiet: false, ...more,
  });
  if (which === "none") return [];
  const lines: NetworkLine[] = [
    line("registry.example.org", "blocked", 6, 12, { port: 0 }),
    line("api.anthropic.com", "reached", 212, 3, { address: "203.0.113.9" }),
    line("db.internal", "blocked", 2, 340, { port: 5432, reason: "private", address: "10.4.0.12" }),
    line("github.com", "reached", 14, 95, { address: "203.0.113.80" }),
    line("objects.example.net", "reached", 3, 600, { address: "2001:db8::41" }),
    line("telemetry.example.com", "blocked", 41, 700, { port: 0, quiet: true }),
    line("169.254.169.254", "blocked", 1, 1900, { port: 80, reason: "never", address: "169.254.169.254" }),
  ];
  if (which === "hostile") lines.unshift(line("<img/src=x/onerror=alert(3)>", "blocked", 1, 1, { reason: "<b>odd</b>" }));
  if (which === "many") {
    for (let n = 0; n < 493; n += 1) lines.push(line(`host-${n}.example.org`, n % 3 ? "reached" : "blocked", n, n * 10));
  }
  return lines;
}

export const SETTINGS: WindowSettings = {
  theme: "system",
  contrast: "system",
  fontSize: 13,
  programsMayCopy: true,
  scrollback: false,
  notifyNeedsYou: true,
  notifyBlocked: true,
  keepLogDays: 7,
  claudeTelemetry: false,
  closeHides: true,
};

export function layers(): Layer[] {
  const now = seconds();
  return [
    { name: "localhost/rcc-dev-with:3f9c01a2b7d4", size: 412e6, used: now - 7200, projects: ["~/code/clients/a-rather-long-name/web-shop", "~/code/api"] },
    { name: "localhost/rcc-dev-with:8e0d77c1f25a", size: 1.3e9, used: now - 40 * 86400, projects: [] },
  ];
}

const OFFERED: PackageOffer[] = [
  { packages: ["postgresql-client"], because: "docker-compose.yml" },
  { packages: ["golang-go", "gopls"], because: "go.mod" },
];

export function projectSettings(): ProjectSettings {
  return {
    actAlone: true,
    ownLogin: false,
    userNamespaces: false,
    image: "dev",
    memory: null,
    cores: null,
    processes: null,
    packages: ["ffmpeg"],
    offered: structuredClone(OFFERED),
    defaults: { memory: 8 * GIB, cores: 7, processes: 4096 },
    running: false,
  };
}

/** A session's use, a little different each time. */
export function resources(held: boolean, at: number): Resources {
  const swing = Math.sin(at / 3);
  return {
    memory: (1.2 + 0.1 * swing) * GIB,
    memoryLimit: held ? 8 * GIB : null,
    cpu: 1.5 + swing,
    cores: held ? 7 : null,
    processes: 43 + Math.round(3 * swing),
    processLimit: held ? 4096 : null,
    enforced: held,
    why: held ? null : "This computer has no version 2 control groups for your user, so limits cannot be held.",
  };
}

export function walls(offline: boolean, held: boolean, open: boolean): Wall[] {
  return [
    {
      id: "files", state: "holds", title: "Files",
      sentence: "Claude can change this folder and nothing else.",
      layer: "Rootless Podman, user namespace, one writable folder",
    },
    {
      id: "network", state: open ? "open" : "holds", title: "Network",
      sentence: open
        ? "Every public host can be reached until you close it."
        : offline ? "There is no network at all." : "Only allowed hosts can be reached.",
      layer: offline ? "No link" : "Firewall in its own network namespace",
    },
    {
      id: "memory", state: held ? "holds" : "notes", title: "Memory and processor",
      sentence: held ? "It can take up to 8.0 GB of memory." : "This computer cannot hold limits for your user.",
      layer: held ? "Control groups, version 2" : "None here",
    },
    {
      id: "calls", state: "holds", title: "System calls",
      sentence: "No capabilities, no new privileges, a list of allowed calls.",
      layer: "seccomp, AppArmor",
    },
  ];
}

export function tried(open: boolean): Tried[] {
  return [
    { id: "F1", what: "No file outside the project can be read", tried: "a file of your own, by its path, a link, .. and /proc", seen: "not there, by none of five ways", verdict: "holds" },
    { id: "hosts", what: "Hosts that are not allowed are out of reach", tried: "connections to two name servers of the internet's root, which everybody reaches", seen: "refused", verdict: open ? "open" : "holds" },
    { id: "N6", what: "Metadata services of clouds are out of reach", tried: "169.254.169.254, 168.63.129.16, 100.100.100.200", seen: "refused", verdict: "holds" },
    { id: "N13", what: "Other sandboxes are out of reach", tried: "", seen: "no other sandbox of yours is connected", verdict: "notTried" },
  ];
}

export const NO_SECCOMP: Wall = {
  id: "calls", state: "open", title: "System calls",
  sentence: "There is no seccomp on this computer.",
  layer: "No capabilities, no new privileges",
};

/** `bare`: nothing is there; else all is well. */
export function setup(which: string): SetupLine[] {
  const bare = which === "bare";
  const line = (id: SetupLine["id"], title: string, good: string, missing: string, button: string | null, command: string | null, renew: string | null = null): SetupLine => ({
    id, title, state: bare ? "missing" : "good", why: bare ? missing : good, button: bare ? button : renew, command: bare ? command : null,
  });
  return [
    { ...line("engine", "Container engine", "Podman 5.4.2, as your own user.", "", null, null), state: "good", why: "Podman 5.4.2, as your own user." },
    line("ids", "Your user's id range", "65,536 ids.", "Your user has none; the sandbox needs 65,536.", null, "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER"),
    line("firewall", "Firewall service", "Answers, version 0.1.0.", "It does not answer. Sandboxes could start offline only.", "Look Again", "sudo systemctl start rcc-firewall.service"),
    line("image", "Base image", "dev, built 3 days ago, 480 MB.", "Not built yet.", "Build, about 1 min, 480 MB", null, "Build Again"),
    line("claude", "Claude Code", "2.1.330, fetched and checked.", "Not there yet.", "Download, 175 MB", null, "Look for a Newer One"),
    { id: "preset", title: "Network preset", state: "optional", why: "Balanced: Claude, GitHub and your package registries.", button: "Change", command: null },
  ];
}

/** Lists of allowed hosts on three levels, with versions. */

import type { FieldProblem, HostFields, HostLine, HostsChange, HostsDocument, HostsLevel } from "../backend";
import { CHANGED_MEANWHILE } from "./problems";

export function levelName(level: HostsLevel): string {
  return level.level === "project" ? level.project : level.level;
}

export class FakeHosts {
  readonly #documents = new Map<string, HostsDocument>();
  #before: { level: string; version: string; document: HostsDocument } | null = null;

  constructor(which: string) {
    const computer = [
      host("api.anthropic.com", "443", "Claude"),
      host("*.githubusercontent.com", "443"),
      host("github.com", "22, 443"),
      host("db.internal", "5432", "the team's database", true),
    ];
    const all = which === "none" ? [] : [host("registry.example.com", "443", "npm"), host("proxy.example.com", "443", "go")];
    if (which === "many") for (let n = 0; n < 200; n += 1) all.push(host(`mirror-${n}.example.net`, "443"));
    this.#documents.set("computer", {
      ...document("/etc/rcc/network-whitelist.yaml", computer),
      prompts: true,
      usersMayAdd: "public",
      allowPublic: false,
      blockPrivate: true,
      preset: "balanced",
    });
    this.#documents.set("allProjects", document("~/.config/rcc/hosts.yaml", all));
  }

  read(level: HostsLevel): HostsDocument {
    const name = levelName(level);
    let found = this.#documents.get(name);
    if (!found) {
      found = document(`~/.config/rcc/projects/${name}.yaml`, []);
      this.#documents.set(name, found);
    }
    return structuredClone(found);
  }

  change(level: HostsLevel, version: string, change: HostsChange): HostsDocument {
    const now = this.read(level);
    const before = structuredClone(now);
    if (now.version !== version) throw CHANGED_MEANWHILE;
    if (change.kind === "undo") {
      if (this.#before?.level !== levelName(level) || this.#before.version !== version) throw CHANGED_MEANWHILE;
      Object.assign(now, this.#before.document, { version });
    } else if (change.kind === "preset") {
      now.preset = change.preset;
      now.allowPublic = change.preset === "open";
    } else {
      const problem = change.kind === "remove" ? null : this.check(change.host);
      if (problem) throw { code: "RCC-E505", title: "The host cannot be allowed.", why: problem.message, hint: "Correct it.", detail: null };
      const old = change.kind === "replace" ? change.old : change.host;
      const at = now.hosts.findIndex((line) => same(line, old));
      if (change.kind === "remove") now.hosts.splice(at, 1);
      else if (change.kind === "replace" && at >= 0) now.hosts[at] = line(change.host, now.hosts[at]?.comment ?? null);
      else now.hosts.push(line(change.host, null));
    }
    this.#save(level, now);
    this.#before = { level: levelName(level), version: now.version, document: before };
    return structuredClone(now);
  }

  /** As if another program wrote the file. */
  touch(level: HostsLevel, target: string): void {
    const now = this.read(level);
    now.hosts.push(host(target, "443"));
    this.#save(level, now);
  }

  untouch(level: HostsLevel, target: string): void {
    const now = this.read(level);
    now.hosts = now.hosts.filter((each) => each.target !== target);
    this.#save(level, now);
  }

  check(fields: HostFields): FieldProblem | null {
    const target = fields.target.trim();
    if (target === "") return { field: "target", message: "A host's name or an address is missing." };
    if (/^https?:/.test(target)) return { field: "target", message: "Only the name, without “https://” and path." };
    if (/^\*\.[^.]+$/.test(target)) return { field: "target", message: `“${target}” would allow a whole top-level domain.` };
    if (!/^(\*\.)?[a-z0-9.:/-]+$/i.test(target)) return { field: "target", message: "This is no host name and no address." };
    const ports = fields.ports.split(",").map((port) => port.trim());
    const bad = ports.find((port) => !/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65535);
    if (bad !== undefined) return { field: "ports", message: bad === "" ? "A port is missing." : `“${bad}” is no port (1 to 65535).` };
    if (/\.internal$/.test(target) && !fields.private) {
      return { field: "private", message: "This name has a private address: it needs “May be private”." };
    }
    return null;
  }

  #save(level: HostsLevel, now: HostsDocument): void {
    now.version = `${Number(now.version) + 1}`;
    this.#documents.set(levelName(level), now);
  }
}

function document(path: string, hosts: HostLine[]): HostsDocument {
  return {
    version: "1", path, hosts, editable: true, prompts: false,
    usersMayAdd: null, allowPublic: null, blockPrivate: null, preset: null,
  };
}

function host(target: string, ports: string, comment: string | null = null, isPrivate = false): HostLine {
  return line({ target, ports, protocol: "tcp", private: isPrivate }, comment);
}

function line(fields: HostFields, comment: string | null): HostLine {
  const ports = fields.ports.split(",").map((port) => Number(port.trim()));
  const { target, protocol } = fields;
  return { target: target.trim(), ports, protocol, private: fields.private, comment, tunnel: target.startsWith("*.") };
}

function same(line: HostLine, fields: HostFields): boolean {
  return line.target === fields.target && line.ports.join(", ") === fields.ports && line.protocol === fields.protocol;
}

/** Where in the window the person is (PRODUCT 2.1), as it stands in the page's address. */

import type { PageWord } from "../backend/backend";

export const PROJECT_VIEWS = ["terminal", "network", "review", "resources", "settings"] as const;
export type ProjectView = (typeof PROJECT_VIEWS)[number];

export const SECTIONS = ["general", "hosts", "image", "terminal", "notifications", "about"] as const;
export type Section = (typeof SECTIONS)[number];

export type Route =
  | { page: "projects" }
  | { page: "project"; project: string; view: ProjectView }
  | { page: "setup" }
  | { page: "settings"; section: Section };

/** `/p/ID/network` and its like; whatever is none of ours is the list of projects. */
export function parse(address: string): Route {
  const [first, second, third] = address.replace(/^#?\/?/, "").split("/");
  if (first === "setup") return { page: "setup" };
  if (first === "settings") return { page: "settings", section: SECTIONS.find((each) => each === second) ?? "general" };
  if (first === "p" && second && /^[0-9a-f]{16}$/.test(second)) {
    return { page: "project", project: second, view: PROJECT_VIEWS.find((each) => each === third) ?? "terminal" };
  }
  return { page: "projects" };
}

export function write(route: Route): string {
  switch (route.page) {
    case "projects":
      return "#/";
    case "setup":
      return "#/setup";
    case "settings":
      return `#/settings/${route.section}`;
    case "project":
      return `#/p/${route.project}${route.view === "terminal" ? "" : `/${route.view}`}`;
  }
}

/** What the tray, a notification or the command line want to be shown. */
export function routeOf(page: PageWord, project: string | null): Route {
  if (page === "setup") return { page: "setup" };
  if (project === null) {
    if (page === "hosts") return { page: "settings", section: "hosts" };
    if (page === "settings") return { page: "settings", section: "general" };
    return { page: "projects" };
  }
  switch (page) {
    case "network":
      return { page: "project", project, view: "network" };
    case "hosts":
    case "settings":
      return { page: "project", project, view: "settings" };
    default:
      return { page: "project", project, view: "terminal" };
  }
}

/** Problems as the other side words them. */

import type { Problem } from "../backend";

function problem(code: string, title: string, why: string, hint: string, detail: string | null = null): Problem {
  return { code, title, why, hint, detail };
}

export const HELPER_MISSING = problem(
  "RCC-E501",
  "The firewall service does not answer. Sandboxes can start offline only.",
  "It is not installed, or it could not be started.",
  "Start offline, or install rcc's firewall service and try again.",
  "org.freedesktop.DBus.Error.ServiceUnknown: The name dev.rcc.Helper1 was not provided by any .service files",
);

export const ENGINE_MISSING = problem(
  "RCC-E201",
  "Podman is not installed. rcc runs each sandbox with it.",
  "No program `podman` was found in PATH.",
  "Install the packages podman and uidmap with your package manager.",
);

export const LAYER_IN_USE = problem(
  "RCC-E201",
  "Podman does not do what rcc asks.",
  "Podman could not remove localhost/rcc-dev-with:8e0d77c1f25a: it is used by a container.",
  "One that a sandbox runs with stays: stop that session and try again.",
);

export const HOME_REFUSED = problem(
  "RCC-E102",
  "Cannot open your home folder.",
  "Claude could then read keys and passwords of every program.",
  "Choose a project folder inside it.",
);

export const NOT_PUBLIC = problem(
  "RCC-E505",
  "db.internal stays blocked.",
  "The administrator allows only public hosts here.",
  "Ask the administrator to allow it for everybody.",
);

export const NOT_ASKED = problem(
  "RCC-E504",
  "The list of this computer stays as it is.",
  "The administrator's password was not given.",
  "Ask somebody who knows it.",
);

export const CHANGED_MEANWHILE = problem(
  "RCC-E506",
  "The list was changed elsewhere meanwhile.",
  "Another program wrote the file after it was read here.",
  "The list was read again; look at it and save once more.",
);

export const CANCELLED = problem(
  "RCC-E002",
  "Cancelled.",
  "Stopped on your request.",
  "What was begun has been undone.",
);

export const ROOT = problem(
  "RCC-E003",
  "rcc does not run as root.",
  "A container of root's would be root's on this computer, too.",
  "Start it as the ordinary user whose sandboxes these are.",
);

export const TERMINAL = problem(
  "RCC-E604",
  "The terminal could not be started.",
  "There are 16 terminals in this sandbox already.",
  "Close one that you do not need.",
);

export const NOT_SAVED = problem(
  "RCC-E001",
  "The settings could not be saved.",
  "The disk is full.",
  "Make room and try again.",
);

export const CHANGED_AGAIN = problem(
  "RCC-E105",
  "The review of the project's files cannot be done.",
  "There is no change a1b2c3d4e5f6: it is another one by now.",
  "Look at what is there now.",
);

export const NO_TOKEN = problem(
  "RCC-E005",
  "The login cannot be kept.",
  "This is not a token that `claude setup-token` prints.",
  "Copy the whole of it; it begins with sk-ant-oat.",
);

export const MEND_FAILED = problem(
  "RCC-E302",
  "The image could not be built.",
  "The disk is full.",
  "Make room for 2 GB and try again.",
);

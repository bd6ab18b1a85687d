import type { ISearchDecorationOptions } from "@xterm/addon-search";
import type { ITheme } from "@xterm/xterm";

/** Each colour has at least 4.5:1 against the background, but "black" and its like. */
const light: ITheme = {
  background: "#ffffff",
  foreground: "#1d1d20",
  cursor: "#1d1d20",
  cursorAccent: "#ffffff",
  selectionBackground: "#bcd3fb",
  selectionInactiveBackground: "#dcdce1",
  black: "#1d1d20",
  red: "#b3261e",
  green: "#1b6e32",
  yellow: "#7a5a00",
  blue: "#1f56c4",
  magenta: "#8b2fa0",
  cyan: "#0b6a75",
  white: "#66666e",
  brightBlack: "#5b5b63",
  brightRed: "#c4321f",
  brightGreen: "#217a3b",
  brightYellow: "#856200",
  brightBlue: "#2f66d6",
  brightMagenta: "#9b3fb0",
  brightCyan: "#14747f",
  brightWhite: "#3a3a40",
};

const dark: ITheme = {
  background: "#17171a",
  foreground: "#e6e6ea",
  cursor: "#e6e6ea",
  cursorAccent: "#17171a",
  selectionBackground: "#34507f",
  selectionInactiveBackground: "#3a3a41",
  black: "#303036",
  red: "#ff7b72",
  green: "#6fce84",
  yellow: "#e3b95c",
  blue: "#7fb0ff",
  magenta: "#d79be8",
  cyan: "#69cbd6",
  white: "#d0d0d6",
  brightBlack: "#94949e",
  brightRed: "#ff9a92",
  brightGreen: "#8fe0a1",
  brightYellow: "#f2cf80",
  brightBlue: "#a5c8ff",
  brightMagenta: "#e6b8f3",
  brightCyan: "#8fdde6",
  brightWhite: "#ffffff",
};

export function themeOf({ dark: isDark, highContrast }: { dark: boolean; highContrast: boolean }): ITheme {
  const theme = isDark ? dark : light;
  if (!highContrast) return theme;
  const [background, foreground] = isDark ? ["#000000", "#ffffff"] : ["#ffffff", "#000000"];
  return { ...theme, background, foreground, cursor: foreground, cursorAccent: background };
}

/** Programs choose colours for a background that they guess: xterm.js shifts them to this (WCAG 2.2, AA and AAA). */
export function contrastOf({ highContrast }: { highContrast: boolean }): number {
  return highContrast ? 7 : 4.5;
}

/** What was searched for: the one that is shown stands out by its frame, too. */
export const FOUND_LIGHT: ISearchDecorationOptions = {
  matchBackground: "#ffe39a",
  matchOverviewRuler: "#b98900",
  activeMatchBackground: "#ffb84d",
  activeMatchBorder: "#7a4d00",
  activeMatchColorOverviewRuler: "#7a4d00",
};

export const FOUND_DARK: ISearchDecorationOptions = {
  matchBackground: "#5a4a1c",
  matchOverviewRuler: "#d9a520",
  activeMatchBackground: "#8a6410",
  activeMatchBorder: "#ffd27a",
  activeMatchColorOverviewRuler: "#ffd27a",
};

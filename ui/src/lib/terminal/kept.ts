/** Keys that the window keeps from a focused terminal (PRODUCT 2.8). */

/** With Ctrl+Shift. `V` is the web view's own paste, `?` the list of keys. */
const LETTERS = "ACDFKNOTUVW?/";

/** All others are the program's, above all Ctrl+C, Ctrl+O, Ctrl+K and Ctrl+Q. */
export function isKept(event: KeyboardEvent): boolean {
  const { ctrlKey, shiftKey, altKey, metaKey, key } = event;
  if (metaKey) return false;
  if (ctrlKey && shiftKey && !altKey) return LETTERS.includes(key.toUpperCase());
  if (ctrlKey && !altKey) return key === "PageUp" || key === "PageDown";
  if (altKey && !ctrlKey && !shiftKey) return /^[1-9]$/.test(key);
  return key === "F6" || key === "F9";
}

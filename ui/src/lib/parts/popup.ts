/** What opens at a button, in front of everything and never cut off by a list that scrolls. */

const GAP = 4;
const EDGE = 8;

/** Puts `popup` at its button: below it, or above where there is no room. */
export function place(popup: HTMLElement, button: HTMLElement, align: "start" | "end"): void {
  const at = button.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = popup;
  const left = align === "start" ? at.left : at.right - width;
  const below = at.bottom + GAP + height <= innerHeight - EDGE;
  const top = below ? at.bottom + GAP : Math.max(EDGE, at.top - GAP - height);
  // Through the object model: the policy forbids style attributes.
  popup.style.left = `${Math.min(Math.max(EDGE, left), innerWidth - width - EDGE)}px`;
  popup.style.top = `${top}px`;
}

/**
 * xterm.js writes style sheets as text and colours as `style` attributes; both
 * are inline styles, which the content-security policy forbids. The same rules
 * through the object model are allowed, so they are led there.
 */

/**
 * Runs `open`; style elements made in it become sheets of the document. What
 * stands in their place is inert: even an empty style element is forbidden.
 */
export function withSheets(open: () => void): () => void {
  const sheets: CSSStyleSheet[] = [];
  const create = document.createElement;
  document.createElement = function (this: Document, name: string, options?: ElementCreationOptions) {
    if (name !== "style") return create.call(this, name, options);
    const sheet = new CSSStyleSheet();
    sheets.push(sheet);
    document.adoptedStyleSheets.push(sheet);
    const element = create.call(this, "template");
    return Object.defineProperty(element, "textContent", { set: (text: string) => sheet.replaceSync(text) });
  } as typeof document.createElement;
  try {
    open();
  } finally {
    document.createElement = create;
  }
  return () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((sheet) => !sheets.includes(sheet));
  };
}

let spansAreLed = false;

/** 24-bit colours are set on spans by `setAttribute("style", …)`. */
export function leadSpanStyles(): void {
  if (spansAreLed) return;
  spansAreLed = true;
  HTMLSpanElement.prototype.setAttribute = function (name: string, value: string) {
    if (name === "style") this.style.cssText = value;
    else Element.prototype.setAttribute.call(this, name, value);
  };
}

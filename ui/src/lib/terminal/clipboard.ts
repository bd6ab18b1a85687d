/** Copy and paste rules of a terminal (THREATS T1). */

/** What a program may put on the clipboard, in bytes. */
export const COPY_LIMIT = 1 << 20;

/** So long after a key or a mouse release a program may copy. */
export const COPY_WINDOW_MS = 2000;

/**
 * The text of an OSC 52 sequence, or nothing: for a question (the clipboard is
 * never read), for another selection, for what is no base64 or too long.
 */
export function copiedText(payload: string): string | null {
  const match = /^[cps]*;([A-Za-z0-9+/]+={0,2})$/.exec(payload);
  const encoded = match?.[1];
  if (!encoded || encoded.length > (COPY_LIMIT / 3) * 4 + 4) return null;
  try {
    const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
    if (bytes.length > COPY_LIMIT) return null;
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

/** Control characters but tab and line breaks never reach a program by pasting. */
export function withoutControls(text: string): string {
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g, "");
}

/** Whether the person should look before it is pasted. */
export function needsALook(text: string, bracketed: boolean): boolean {
  if (withoutControls(text) !== text) return true;
  return !bracketed && (/[\r\n]/.test(text) || text.length > 5000);
}

/** What the person should know of it. */
export function whyALook(text: string): string {
  const lines = text.trim().split(/\r\n|\r|\n/).length;
  const said = [];
  if (lines > 1) said.push(`A shell runs each of these ${lines} lines at once.`);
  else if (/[\r\n]/.test(text)) said.push("A shell runs this line at once.");
  else if (text.length > 5000) said.push(`It is ${text.length.toLocaleString("en")} characters long.`);
  if (withoutControls(text) !== text) said.push("Control characters were taken out of it.");
  return said.join(" ");
}

export function asOneLine(text: string): string {
  return text.replace(/\s*[\r\n]+\s*/g, " ").trim();
}

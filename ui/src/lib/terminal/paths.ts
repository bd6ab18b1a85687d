/** Paths as a person would type them. */

/** As a shell reads it back as one word; Claude takes the quotes away, too. */
export function quoted(path: string): string {
  return /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}

/** Several, and a blank so that one can go on typing. */
export function typedPaths(paths: string[]): string {
  return paths.map((path) => `${quoted(path)} `).join("");
}

/**
 * What of a harness' status (`WorkerStatusResponse.status_info`, free text) tells where one bundle stands: the thread
 * that runs it, where the text names it as Python's SDK does, else as much of the whole as fits.
 *
 * Source: apache_beam/runners/worker/worker_status.py: blocks that begin with "--- ", one for each active instruction
 * with its "tracked thread", one for each distinct stack with the threads' idents.
 */

/** @param maxCharacters of the result, about */
export function statusExcerpt(status: string, instructionId: string, maxCharacters: number): string {
  const blocks = status.split(/^(?=--- |={5})/m);
  const own = blocks.find((block) => block.startsWith(`--- instruction ${instructionId} `));
  const idents = /^tracked thread: .*$/m.exec(own ?? "")?.[0].match(/\b\d{4,}\b/g) ?? [];
  const thread = blocks.find((block) => {
    const [header = "", others = ""] = block.split("\n", 2);
    const named = others.startsWith("threads: ") ? `${header} ${others}` : header;
    return header.startsWith("--- Thread ") && idents.some((ident) => new RegExp(`\\b${ident}\\b`).test(named));
  });
  if (own === undefined || thread === undefined) return head(status.trim(), maxCharacters);
  const since = /^time since .*$/m.exec(own)?.[0];
  const note = since === undefined ? "" : `${since}\n`;
  return note + innermost(thread.trimEnd(), maxCharacters - note.length);
}

function head(text: string, maxCharacters: number): string {
  if (text.length <= maxCharacters) return text;
  return `${text.slice(0, maxCharacters)}\n(${text.length - maxCharacters} more characters)`;
}

/** The most recent calls come last in Python. */
function innermost(stack: string, maxCharacters: number): string {
  if (stack.length <= maxCharacters) return stack;
  const [header = ""] = stack.split("\n", 1);
  const cut = stack.slice(stack.length - maxCharacters);
  const calls = cut.slice(cut.indexOf("\n  File ") + 1);
  return `${header}\n  (outer calls left out)\n${calls}`;
}

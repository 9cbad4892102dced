/** The last lines of what a process printed, bounded in number and in length. */

const LINES = 50;
const LINE_CHARACTERS = 2_000;

export class OutputTail {
  readonly #lines: string[] = [];
  readonly #onLine: (line: string) => void;

  /** `onLine` is told of every whole line. */
  constructor(onLine: (line: string) => void = () => undefined) {
    this.#onLine = onLine;
  }

  /** Reads `stream` to its end. A stream's lines keep their order; those of two streams interleave as they arrive. */
  follow(stream: NodeJS.ReadableStream): void {
    stream.setEncoding("utf8");
    let rest = "";
    stream.on("data", (text: string) => {
      const lines = (rest + text).split(/\r?\n/);
      // A line that never ends is cut, not kept.
      rest = (lines.pop() ?? "").slice(0, LINE_CHARACTERS);
      for (const line of lines) this.#add(line);
    });
    stream.on("end", () => {
      if (rest !== "") this.#add(rest);
      rest = "";
    });
    stream.on("error", () => undefined);
  }

  /** Oldest first. */
  lines(): readonly string[] {
    return [...this.#lines];
  }

  #add(line: string): void {
    const kept = line.slice(0, LINE_CHARACTERS);
    this.#lines.push(kept);
    if (this.#lines.length > LINES) this.#lines.shift();
    this.#onLine(kept);
  }
}

/** Ends a transfer in which nothing moves any more: a store that has gone without closing its connection. */
import { Transform } from "node:stream";
import { type Clock, systemClock } from "../base/clock.ts";

export interface Transfer {
  /** Aborted when nothing has moved for too long. */
  readonly signal: AbortSignal;
  /** Something has moved. */
  readonly moved: () => void;
  /** Passes bytes on, and sees that they move. */
  meter(): Transform;
}

/**
 * @param limitMs it is ended after so long, and at most twice as long, of silence
 * @throws what `transfer` throws, which must end soon after its signal is aborted
 */
export async function withSilenceLimit<T>(
  limitMs: number,
  transfer: (control: Transfer) => Promise<T>,
  clock: Clock = systemClock,
): Promise<T> {
  const silent = new AbortController();
  const ended = new AbortController();
  let hasMoved = true;
  const moved = () => {
    hasMoved = true;
  };
  const meter = () =>
    new Transform({
      transform(chunk, _encoding, pass) {
        moved();
        pass(undefined, chunk);
      },
    });
  const watch = async () => {
    for (; hasMoved; await clock.sleep(limitMs, ended.signal)) hasMoved = false;
    silent.abort(Object.assign(new Error(`nothing has moved for ${limitMs / 1000} s`), { code: "ETIMEDOUT" }));
  };
  watch().catch(() => undefined);
  try {
    return await transfer({ signal: silent.signal, moved, meter });
  } finally {
    ended.abort();
  }
}

/** What all environments of a worker share: where programs and temporary files are. */
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { SessionGuard } from "./session-guard.ts";

export interface HarnessLauncherInit {
  readonly log: Log;
  readonly clock: Clock;
  /** The Node that runs `weir boot python`. */
  readonly nodePath: string;
  /** The file that Node runs as `weir`. */
  readonly weirMainPath: string;
  /** Stock Python SDK images are started as `weir boot python` with a local Python. */
  readonly dockerImagesAsProcess: boolean;
  /** The Python for `weir boot python`; it must have apache_beam. */
  readonly pythonPath?: string;
  /** Each harness has a folder of its own below it while it lives. */
  readonly temporaryDirectory: string;
  /** Ends the harnesses' processes if the worker is killed. */
  readonly guard?: SessionGuard;
}

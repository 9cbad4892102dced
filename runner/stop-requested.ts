/** Resolves with why the process is to end: a signal, or the loss of the process that started it. */
export function stopRequested(watchStdin = false): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => resolve(signal));
    // The launcher in bin/ runs us on another Node; when it is killed outright, only the channel's end tells.
    if (process.connected) process.once("disconnect", () => resolve("the launcher is gone"));
    if (watchStdin) process.stdin.once("close", () => resolve("the job server is gone")).resume();
  });
}

// A fixture that lint must refuse: a promise that nobody awaits.
async function work(): Promise<void> {}

export function start(): void {
  work();
}

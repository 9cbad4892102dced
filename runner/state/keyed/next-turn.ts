/** Resolves after other work of the event loop has had its turn: what lies between two slices of a long task. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

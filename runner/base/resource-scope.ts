/** Owns what must be closed: closes in reverse order of opening, once, and awaits each. */

export class ResourceScope {
  #closers: (() => Promise<void> | void)[] = [];
  #closing: Promise<void> | undefined;

  /** Registers `close` to run when the scope ends. Runs it at once when the scope has ended already. */
  defer(close: () => Promise<void> | void): void {
    if (this.#closing !== undefined) {
      this.#closing = this.#closing.then(() => close());
      return;
    }
    this.#closers.push(close);
  }

  /** Registers a resource with an idempotent, awaited `close()`. Returns it. */
  own<Resource extends { close(): Promise<void> | void }>(resource: Resource): Resource {
    this.defer(() => resource.close());
    return resource;
  }

  /** Closes everything in reverse order. Idempotent. @throws AggregateError when closers failed; all have run. */
  close(): Promise<void> {
    this.#closing ??= this.#closeAll();
    return this.#closing;
  }

  async #closeAll(): Promise<void> {
    const failures: unknown[] = [];
    for (const close of this.#closers.splice(0).reverse()) {
      try {
        await close();
      } catch (failure) {
        failures.push(failure);
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, "closing failed");
  }
}

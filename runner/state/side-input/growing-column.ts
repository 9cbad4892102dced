/** Columns of numbers that grow: a table of millions of rows costs a few bytes for each, and no object. */

export class IntColumn {
  values = new Int32Array(64);
  length = 0;

  push(value: number): void {
    if (this.length === this.values.length) {
      const larger = new Int32Array(2 * this.length);
      larger.set(this.values);
      this.values = larger;
    }
    this.values[this.length++] = value;
  }

  get byteLength(): number {
    return this.values.byteLength;
  }
}

/** For positions and sizes beyond 2^31. */
export class NumberColumn {
  values = new Float64Array(64);
  length = 0;

  push(value: number): void {
    if (this.length === this.values.length) {
      const larger = new Float64Array(2 * this.length);
      larger.set(this.values);
      this.values = larger;
    }
    this.values[this.length++] = value;
  }

  get byteLength(): number {
    return this.values.byteLength;
  }
}

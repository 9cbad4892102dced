import type { OneHalf } from "./one-half.ts";

export interface OtherHalf {
  readonly one: OneHalf;
}

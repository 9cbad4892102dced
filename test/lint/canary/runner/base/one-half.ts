// The import rule must refuse it: types in a circle.
import type { OtherHalf } from "./other-half.ts";

export interface OneHalf {
  readonly other: OtherHalf;
}

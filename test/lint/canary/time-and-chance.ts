// A fixture that lint must refuse: time and chance that do not come from runner/base.
import { randomUUID } from "node:crypto";

export const now = Date.now();
export const chance = Math.random();
export const id = randomUUID();

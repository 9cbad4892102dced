import test from "ava";
import { Elements } from "../../../proto/gen/beam_fn_api.ts";
import { encodeData, encodeTimers } from "./encode-elements.ts";

test("a data message decodes to the same parts as the generated encoder's", (t) => {
  const chunks = [new Uint8Array([1, 2, 3]), new Uint8Array(300).fill(7)];
  const decoded = Elements.decode(encodeData("i".repeat(200), "transform", chunks, true));
  t.deepEqual(decoded.data.length, 1);
  const part = decoded.data[0];
  t.is(part?.instructionId, "i".repeat(200));
  t.is(part?.transformId, "transform");
  t.true(part?.isLast);
  t.deepEqual(Buffer.from(part?.data ?? []), Buffer.concat(chunks));
});

test("an empty last message carries no payload, and timers name their family", (t) => {
  const end = Elements.decode(encodeData("i", "t", [], true)).data[0];
  t.is(end?.data.length, 0);
  t.true(end?.isLast);
  const timers = Elements.decode(encodeTimers("i", "t", "family", [new Uint8Array([9])], false)).timers[0];
  t.is(timers?.timerFamilyId, "family");
  t.deepEqual([...(timers?.timers ?? [])], [9]);
  t.false(timers?.isLast);
});

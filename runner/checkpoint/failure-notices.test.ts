import test from "ava";
import { FailureNotices } from "./failure-notices.ts";

test("the first failures are told at once, then one a minute, and that it is over", (t) => {
  const notices = new FailureNotices();
  const told: string[] = [];
  for (let id = 1; id <= 300; id++) {
    const notice = notices.failed(id, "the store is down.", id * 1_000);
    if (notice !== undefined) told.push(notice.text);
  }
  t.is(told.length, 7);
  t.is(told[2], "Checkpoint 3 is given up: the store is down.");
  t.is(told[3], "Checkpoint 61 is given up: the store is down. So were 57 before it, since the last message.");
  t.is(told[4], "Checkpoint 121 is given up: the store is down. So were 59 before it, since the last message.");
  t.deepEqual(notices.completed(301), {
    importance: "BASIC",
    text: "Checkpoint 301 is complete, after 300 in a row that were given up.",
  });
  t.is(notices.completed(302), undefined);
});

test("failures that come and go are bounded, too", (t) => {
  const notices = new FailureNotices();
  let told = 0;
  for (let id = 1; id <= 600; id++) {
    const notice = id % 2 === 0 ? notices.completed(id) : notices.failed(id, "slow", id * 100);
    if (notice !== undefined) told++;
  }
  t.is(told, 6);
  const notice = notices.failed(601, "slow", 60_100);
  t.is(notice?.text, "Checkpoint 601 is given up: slow. So were 297 before it, since the last message.");
});

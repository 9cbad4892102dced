import test from "ava";
import { statusExcerpt } from "./status-excerpt.ts";

/** As Python's SDK 2.77 writes it. */
const STATUS = `========== CACHE STATS ==========
Cache disabled
========== ACTIVE PROCESSING BUNDLES ==========
--- instruction h-1 ---
ProcessBundleDescriptorId: job/a
tracked thread: <Thread(Thread-7, started daemon 140001)>
time since transition: 1.00 seconds

--- instruction h-12 ---
ProcessBundleDescriptorId: job/b
tracked thread: <Thread(Thread-9, started daemon 140009)>
time since transition: 12.34 seconds

==============================
========== THREAD DUMP ==========
--- Thread #140000 name: MainThread and other 1 threads---
threads: [(140000, 'MainThread'), (140001, 'Thread-7')]
  File "a.py", line 1, in waits
    wait()

--- Thread #140009 name: Thread-9 ---
  File "worker.py", line 1, in run
    self.process()
  File "user.py", line 7, in hangs
    time.sleep(3600)

==============================`;

test("the stack of the thread that runs the bundle is told, and for how long it has stood", (t) => {
  t.is(
    statusExcerpt(STATUS, "h-12", 1_000),
    `time since transition: 12.34 seconds
--- Thread #140009 name: Thread-9 ---
  File "worker.py", line 1, in run
    self.process()
  File "user.py", line 7, in hangs
    time.sleep(3600)`,
  );
});

test("a thread whose stack is told together with others' is found", (t) => {
  t.regex(statusExcerpt(STATUS, "h-1", 1_000), /140000 name: MainThread and other 1[^]*in waits/);
});

test("of a deep stack the innermost calls are told", (t) => {
  const text = statusExcerpt(STATUS, "h-12", 130);
  t.regex(text, /name: Thread-9 ---\n {2}\(outer calls left out\)\n {2}File "user.py", line 7, in hangs\n/);
  t.notRegex(text, /worker\.py/);
});

test("a status that does not name the bundle, or of another SDK, is told from its beginning", (t) => {
  t.is(statusExcerpt("goroutine 7 [running]:\nmain()", "h-12", 1_000), "goroutine 7 [running]:\nmain()");
  t.is(
    statusExcerpt(STATUS, "h-99", 33),
    "========== CACHE STATS ==========\n(" + (STATUS.length - 33) + " more characters)",
  );
});

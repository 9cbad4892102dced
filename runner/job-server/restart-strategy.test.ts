import test from "ava";
import fc from "fast-check";
import { readDurationMs } from "./duration-text.ts";
import { jobSettings } from "./job-settings.ts";
import { readOptions } from "./pipeline-options.ts";
import { forbidsRestarts, mayComeRight, type RestartPolicy, RestartStrategy } from "./restart-strategy.ts";

const policyOf = (options: Record<string, unknown>): RestartPolicy => jobSettings(readOptions(options)).restarts;
/** Neither more nor less than the delay itself. */
const EVEN = () => 0.5;
const RATE = { kind: "failure-rate", maxFailures: 2, intervalMs: 1_000, delayMs: 10 } as const;
const EXPONENTIAL = {
  kind: "exponential-delay",
  initialMs: 1_000,
  maxMs: 10_000,
  multiplier: 2,
  resetAfterMs: 60_000,
  jitter: 0.1,
  attempts: Infinity,
} as const;

/** Each failure: after how long → the delay, or "give up". */
function delaysOf(policy: RestartPolicy, gapsMs: readonly number[], chance = EVEN): (number | string)[] {
  const strategy = new RestartStrategy(policy);
  let nowMs = 0;
  return gapsMs.map((gapMs) => {
    nowMs += gapMs;
    const decision = strategy.failed(nowMs, chance);
    return decision.kind === "restart" ? decision.delayMs : "give up";
  });
}

test("what is not asked for: three restarts in a row, counted anew with each progress", (t) => {
  const strategy = new RestartStrategy(policyOf({}));
  const fail = () => strategy.failed(0, EVEN);
  t.deepEqual(fail(), { kind: "restart", delayMs: 500, counted: "restart 1 of 3" });
  fail();
  strategy.progressed();
  t.deepEqual([fail(), fail(), fail(), fail()].map(({ kind }) => kind).join(), "restart,restart,restart,give-up");
});

test("a fixed delay counts all restarts, whatever the progress", (t) => {
  const strategy = new RestartStrategy(policyOf({ number_of_execution_retries: 1, execution_retry_delay: 7 }));
  t.deepEqual(strategy.failed(0, EVEN), { kind: "restart", delayMs: 7, counted: "restart 1 of 1" });
  strategy.progressed();
  t.deepEqual(strategy.failed(0, EVEN), { kind: "give-up", restarts: 1 });
});

test("a failure rate gives up at one failure too many in any interval", (t) => {
  t.deepEqual(delaysOf(RATE, [0, 999, 2_000, 500, 501]), [10, 10, 10, 10, 10]);
  t.deepEqual(delaysOf(RATE, [0, 500, 500]), [10, 10, "give up"]);
  const { counted } = new RestartStrategy(RATE).failed(0, EVEN) as { counted: string };
  t.is(counted, "restart 1, failure 1 of 2 allowed in 1 s");
});

test("an exponential delay grows to its maximum, and is the initial one again after a while without failure", (t) => {
  const soon = Array<number>(6).fill(20_000);
  t.deepEqual(delaysOf(EXPONENTIAL, soon), [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
  t.deepEqual(delaysOf(EXPONENTIAL, [0, 62_000, 61_000, 10_000]), [1_000, 1_000, 1_000, 2_000]);
  t.deepEqual(delaysOf({ ...EXPONENTIAL, attempts: 2 }, [0, 5, 5]), [1_000, 2_000, "give up"]);
  t.deepEqual(
    delaysOf(EXPONENTIAL, [0, 5, 5], () => 1),
    [1_100, 2_200, 4_400],
  );
  t.deepEqual(
    delaysOf(EXPONENTIAL, [0, 5, 5], () => 0),
    [1_000, 1_800, 3_600],
  );
});

test("whatever happens: delays are in their bounds, and no interval has more restarts than its rate", (t) => {
  const gaps = fc.array(fc.integer({ min: 0, max: 800 }), { maxLength: 60, size: "max" });
  fc.assert(
    fc.property(gaps, fc.double({ min: 0, max: 1, noNaN: true }), (gapsMs, chance) => {
      const exponential = delaysOf(EXPONENTIAL, gapsMs, () => chance);
      if (!exponential.every((delayMs) => typeof delayMs === "number" && delayMs >= 1_000 && delayMs <= 10_000))
        return false;
      let atMs = 0;
      const times = gapsMs.map((gapMs) => (atMs += gapMs));
      const restarted = delaysOf(RATE, gapsMs).map((delay) => delay !== "give up");
      return times.every((time, index) => {
        const inInterval = times.filter((other, at) => at <= index && time - other <= RATE.intervalMs).length;
        return restarted[index] === inInterval <= RATE.maxFailures;
      });
    }),
  );
  t.pass();
});

test("none, by any name, and no retries forbid restarts; a strategy that is named takes failures of the pipeline, too", (t) => {
  for (const type of ["none", "off", "disable"]) t.true(forbidsRestarts(policyOf({ restart_strategy_type: type })));
  t.true(forbidsRestarts(policyOf({ number_of_execution_retries: 0 })));
  t.deepEqual(delaysOf(policyOf({ restart_strategy_type: "none" }), [0]), ["give up"]);
  t.false(mayComeRight(undefined, policyOf({})));
  t.false(mayComeRight(undefined, policyOf({ restart_strategy_type: "off" })));
  for (const type of ["fixed-delay", "failurerate", "exponential-delay"])
    t.true(mayComeRight(undefined, policyOf({ restart_strategy_type: type })));
  t.true(mayComeRight({ retry: true, environmentLost: false }, policyOf({})));
  t.false(mayComeRight({ retry: true, environmentLost: true }, policyOf({ restart_strategy_type: "fixed-delay" })));
});

test("Flink's names have Flink's defaults and its way to write durations", (t) => {
  t.deepEqual(policyOf({ restart_strategy_type: "fixeddelay" }), { kind: "fixed-delay", attempts: 1, delayMs: 1_000 });
  t.deepEqual(
    policyOf({ restart_strategy_type: "fixed-delay", number_of_execution_retries: 4, execution_retry_delay: 5 }),
    { kind: "fixed-delay", attempts: 4, delayMs: 5 },
  );
  t.deepEqual(policyOf({ restart_strategy_type: "failure-rate" }), {
    kind: "failure-rate",
    maxFailures: 1,
    intervalMs: 60_000,
    delayMs: 1_000,
  });
  t.deepEqual(
    policyOf({
      restart_strategy_type: "exponential-delay",
      restart_strategy_exponential_delay_max_backoff: "5 min",
      restart_strategy_exponential_delay_backoff_multiplier: "2.0",
    }),
    { ...EXPONENTIAL, maxMs: 300_000, resetAfterMs: 3_600_000 },
  );
  const written = ["250", "250ms", "3 s", "2 seconds", "1 MIN", "4m", "1h", "2 days", "", "soon", "-1 s", "1.5 s"];
  t.deepEqual(written.map(readDurationMs), [
    250,
    250,
    3_000,
    2_000,
    60_000,
    240_000,
    3_600_000,
    172_800_000,
    ...Array<undefined>(4).fill(undefined),
  ]);
});

for (const [options, says] of [
  [{ restart_strategy_type: "sometimes" }, /--restart_strategy_type must be one of none, off/],
  [{ restart_strategy_fixed_delay_attempts: 3 }, /fixed_delay_attempts is set without --restart_strategy_type=fixed-d/],
  [
    { restart_strategy_type: "none", number_of_execution_retries: 3 },
    /retries and --restart_strategy_type=none exclude/,
  ],
  [
    { restart_strategy_type: "fixed-delay", restart_strategy_fixed_delay_delay: "1 s", execution_retry_delay: 3 },
    /--restart_strategy_fixed_delay_delay and --execution_retry_delay say the same/,
  ],
  [
    { restart_strategy_type: "failure-rate", restart_strategy_failure_rate_delay: "soon" },
    /--restart_strategy_failure_rate_delay must be a duration .*"soon".*"10 s"/,
  ],
  [
    { restart_strategy_type: "exponential-delay", restart_strategy_exponential_delay_jitter_factor: "2" },
    /--restart_strategy_exponential_delay_jitter_factor must be a number, from 0 to 1/,
  ],
  [
    { restart_strategy_type: "exponential-delay", restart_strategy_exponential_delay_initial_backoff: "2 min" },
    /initial_backoff, 120000 ms, is more than --restart_strategy_exponential_delay_max_backoff, 60000 ms/,
  ],
] as const)
  test(`${Object.entries(options).join(" ")} is refused by name`, (t) => {
    t.regex(t.throws(() => policyOf(options)).message, says);
  });

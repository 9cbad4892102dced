import test from "ava";
import {
  AccumulationMode_Enum,
  OutputTime_Enum,
  Pipeline,
  type WindowingStrategy,
} from "../../proto/gen/beam_runner_api.ts";
import { SmallPipeline } from "../../test/pipelines/small-pipeline.ts";
import { upgradeReport } from "./upgrade-report.ts";

function pipeline(...after: readonly string[]): Uint8Array {
  const small = new SmallPipeline();
  let last = small.groupByKey("group", small.parDo("first", small.impulse("impulse")));
  for (const id of after) last = small.groupByKey(`${id} group`, small.parDo(id, last));
  return Pipeline.encode(small.pipeline).finish();
}

test("the same pipeline can go on", (t) => {
  const { lines, breaks } = upgradeReport(pipeline(), pipeline());
  t.deepEqual(lines, ["The pipeline can go on from a savepoint of the job."]);
  t.false(breaks);
});

test("what is new begins, what is gone is dropped only if the user says so", (t) => {
  const added = upgradeReport(pipeline(), pipeline("more"));
  t.false(added.breaks);
  t.true(added.lines.some((line) => line.startsWith("new ") && line.includes("more")));
  const gone = upgradeReport(pipeline("more"), pipeline());
  t.true(gone.breaks);
  t.true(gone.lines.some((line) => line.startsWith("dropped ") && line.includes("more")));
  t.regex(gone.lines.at(-1) ?? "", /--allow_non_restored_state alone/);
});

test("another windowing is told, and breaks where windows that have begun could not go on", (t) => {
  const windowed = (change: Partial<WindowingStrategy>): Uint8Array => {
    const small = new SmallPipeline();
    small.parDo("last", small.groupByKey("group", small.parDo("first", small.impulse("impulse"))));
    const { components } = small.pipeline;
    for (const [id, windowing] of Object.entries(components?.windowingStrategies ?? {}))
      components!.windowingStrategies[id] = { ...windowing, ...change };
    return Pipeline.encode(small.pipeline).finish();
  };
  const report = (change: Partial<WindowingStrategy>) => upgradeReport(windowed({}), windowed(change));
  const told = report({ allowedLateness: 7n, outputTime: OutputTime_Enum.LATEST_IN_PANE });
  t.false(told.breaks);
  t.regex(
    told.lines.join("\n"),
    /^changed {2}What "group, last" has grouped: its allowed lateness was 0 ms and is 7 ms now/m,
  );
  t.regex(
    told.lines.join("\n"),
    /^changed {2}What "group, last" has grouped: its timestamp combiner was .* and is LATEST_IN_PANE/m,
  );
  const broken = report({ accumulationMode: AccumulationMode_Enum.ACCUMULATING });
  t.true(broken.breaks);
  t.regex(broken.lines.join("\n"), /^breaks {3}What "group, last" has grouped: its accumulation mode/m);
});

test("bytes that are no pipeline are told by name", (t) => {
  t.throws(() => upgradeReport(pipeline(), Uint8Array.of(255, 255)), { message: /pipeline/i });
});

import test from "ava";
import { PTransform, TestStreamPayload } from "../../../proto/gen/beam_runner_api.ts";
import { SmallPipeline } from "../../../test/pipelines/small-pipeline.ts";
import { buildExecutionGraph } from "../build-execution-graph.ts";

/** A TestStream of one element, read by a ParDo. */
function pipeline(coderUrn: string, encodedElement: Uint8Array): SmallPipeline {
  const small = new SmallPipeline();
  small.components.coders["element"] = {
    spec: { urn: coderUrn, payload: new Uint8Array() },
    componentCoderIds: [],
  };
  const elements = [{ encodedElement, timestamp: 5n }];
  const payload = TestStreamPayload.encode({
    coderId: "element",
    events: [{ event: { $case: "elementEvent", value: { elements, tag: "" } } }],
    endpoint: undefined,
  }).finish();
  const spec = { urn: "beam:transform:teststream:v1", payload };
  small.parDo(
    "Use",
    small.add(
      "Stream",
      { ...PTransform.fromPartial({}), uniqueName: "Stream", outputs: { out: "Stream.out" }, spec },
      "element",
    ),
  );
  return small;
}

function elementOf(small: SmallPipeline): Uint8Array | undefined {
  const head = buildExecutionGraph(small.pipeline).vertices[0]?.head;
  if (head?.kind !== "test-stream") return undefined;
  const [first] = TestStreamPayload.decode(head.payload).events;
  return first?.event?.$case === "elementEvent" ? first.event.value.elements[0]?.encodedElement : undefined;
}

test("elements stay as the SDK wrote them, but for the length that Go's own coder writes", (t) => {
  const bytes = Uint8Array.of(2, 7, 8);
  t.deepEqual([...(elementOf(pipeline("beam:coder:pickled_python:v1", bytes)) ?? [])], [2, 7, 8]);
  t.deepEqual([...(elementOf(pipeline("beam:go:coder:custom:v1", bytes)) ?? [])], [7, 8]);
});

test("a Go element without its length is refused", (t) => {
  t.throws(() => elementOf(pipeline("beam:go:coder:custom:v1", Uint8Array.of(9, 7))), {
    message: /An element of transform 'Stream' .* does not begin with its length/,
  });
});

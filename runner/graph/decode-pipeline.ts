/**
 * Bytes to a Pipeline message. Bytes that are no pipeline end here, with a message that says so, rather than as an
 * empty plan.
 */
import { Pipeline } from "../../proto/gen/beam_runner_api.ts";
import { userError, WeirError } from "../base/errors.ts";

/** @throws WeirError INVALID_ARGUMENT when the bytes are empty, are no protobuf, or hold no components. */
export function decodePipeline(bytes: Uint8Array): Pipeline {
  const hint = "Submit an org.apache.beam.model.pipeline.v1.Pipeline message, as Pipeline.to_runner_api() makes it.";
  if (bytes.byteLength === 0) throw userError("INVALID_ARGUMENT", "The pipeline is empty: 0 bytes.", hint);
  let pipeline: Pipeline;
  try {
    pipeline = Pipeline.decode(bytes);
  } catch (thrown) {
    throw new WeirError({
      code: "INVALID_ARGUMENT",
      domain: "user",
      message: `The ${bytes.byteLength} bytes given as a pipeline are not a Pipeline message.`,
      hint,
      cause: thrown,
    });
  }
  if (pipeline.components === undefined) {
    throw userError("INVALID_ARGUMENT", `The ${bytes.byteLength} bytes given as a pipeline hold no components.`, hint);
  }
  return pipeline;
}

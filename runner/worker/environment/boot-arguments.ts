/** The arguments of Beam's boot contract (https://s.apache.org/beam-fn-api-container-contract). Pure. */
import type { HarnessEndpoints } from "../task/ports.ts";

/** `semiPersistDirectory` is left to the boot command's default when undefined, as in a container. */
export function bootArguments(harnessId: string, endpoints: HarnessEndpoints, semiPersistDirectory?: string): string[] {
  return [
    `--id=${harnessId}`,
    `--provision_endpoint=${endpoints.provision}`,
    `--logging_endpoint=${endpoints.logging}`,
    `--control_endpoint=${endpoints.control}`,
    `--artifact_endpoint=${endpoints.artifact}`,
    ...(semiPersistDirectory === undefined ? [] : [`--semi_persist_dir=${semiPersistDirectory}`]),
  ];
}

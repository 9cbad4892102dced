import test from "ava";
import {
  ArtifactFilePayload,
  type ArtifactInformation,
  ArtifactStagingToRolePayload,
} from "../../../proto/gen/beam_runner_api.ts";
import { ProvisionInfo } from "../../../proto/gen/beam_provision_api.ts";
import { type StagedFile, stagedName } from "./boot-artifacts.ts";
import { harnessVariables } from "./boot-python.ts";
import { bringsPackages, environmentKey, extraPackageNames, pipSteps } from "./python-packages.ts";

const python = { executable: "/usr/bin/python3", version: "3.11", ownSitePackages: [], beam: "2.77.0 /beam" };
const file = (name: string, sha256 = "1"): StagedFile => ({ name, sha256, requirements: false });

function artifact(name: string): ArtifactInformation {
  return {
    typeUrn: "beam:artifact:type:file:v1",
    typePayload: ArtifactFilePayload.encode({ path: "/store/abc", sha256: "" }).finish(),
    roleUrn: "beam:artifact:role:staging_to:v1",
    rolePayload: ArtifactStagingToRolePayload.encode({ stagedName: name }).finish(),
  };
}

test("names of staged files stay below their folder", (t) => {
  t.is(stagedName(artifact("requirements.txt"), 0), "requirements.txt");
  t.is(stagedName(artifact("a/./b//c"), 0), "a/b/c");
  for (const name of ["../x", "a/../../x", "/etc/passwd", "", ".", "a\0b", "..", "a/.."])
    t.throws(() => stagedName(artifact(name), 0), { message: /would leave the folder/ }, name);
  t.is(stagedName({ ...artifact("ignored"), roleUrn: "beam:artifact:role:pip_requirements_file:v1" }, 3), "3-abc");
});

test("packages are installed in Beam's order, each by Beam's pip options", (t) => {
  const files = [file("workflow.tar.gz"), file("extra_packages.txt"), file("mine.whl"), file("requirements.txt")];
  const facts = { files, directory: "/s", python, extraPackages: ["mine.whl"], buildIsolation: false };
  const common = ["install", "--no-cache-dir", "--disable-pip-version-check"];
  t.deepEqual(
    pipSteps(facts).map(({ args, mayFail }) => ({ args, mayFail })),
    [
      {
        args: [...common, "-r", "/s/requirements.txt", "--find-links", "/s", "--no-index", "--no-deps"],
        mayFail: true,
      },
      { args: [...common, "-r", "/s/requirements.txt", "--find-links", "/s"], mayFail: false },
      {
        args: [...common, "--upgrade", "--force-reinstall", "--no-deps", "/s/mine.whl", "--no-build-isolation"],
        mayFail: false,
      },
      { args: [...common, "/s/mine.whl", "--no-build-isolation"], mayFail: false },
      { args: [...common, "/s/workflow.tar.gz", "--no-build-isolation"], mayFail: false },
    ],
  );
  t.deepEqual(pipSteps({ ...facts, files: [file("pickled_main_session")], extraPackages: [] }), []);
  const sdk = pipSteps({ ...facts, files: [file("apache_beam-2.77.0-cp311-x.whl")], extraPackages: [] });
  t.true(sdk[0]?.args.includes("/s/apache_beam-2.77.0-cp311-x.whl[gcp]"));
});

test("a job without packages needs no virtual environment; the main session does not change which one", (t) => {
  t.false(bringsPackages([file("pickled_main_session"), file("submission_environment_dependencies.txt")]));
  t.true(bringsPackages([file("workflow.tar.gz")]));
  t.true(bringsPackages([{ ...file("0-x"), requirements: true }]));
  const key = environmentKey([file("requirements.txt"), file("pickled_main_session", "a")], python);
  t.is(environmentKey([file("pickled_main_session", "b"), file("requirements.txt")], python), key);
  t.not(environmentKey([file("requirements.txt", "2")], python), key);
  t.not(environmentKey([file("requirements.txt")], { ...python, beam: "2.78.0 /beam" }), key);
  t.deepEqual(extraPackageNames("a.whl\r\n\nb.tar.gz\n"), ["a.whl", "b.tar.gz"]);
});

test("the harness's variables: what the provision service says wins over the arguments", (t) => {
  const flags = { id: "h", loggingEndpoint: "log:1", controlEndpoint: "control:1" };
  const info = ProvisionInfo.fromPartial({
    controlEndpoint: { url: "control:2" },
    statusEndpoint: { url: "status:2" },
    runnerCapabilities: ["a", "b"],
    metadata: { job_id: "j" },
  });
  const facts = { flags, info, semiPersistDirectory: "/s", options: "{}", optionsFile: undefined };
  t.deepEqual(harnessVariables(facts), {
    WORKER_ID: "h",
    SEMI_PERSISTENT_DIRECTORY: "/s",
    CONTROL_API_SERVICE_DESCRIPTOR: 'url: "control:2"',
    LOGGING_API_SERVICE_DESCRIPTOR: 'url: "log:1"',
    STATUS_API_SERVICE_DESCRIPTOR: 'url: "status:2"',
    RUNNER_CAPABILITIES: "a b",
    PIPELINE_OPTIONS: "{}",
    JOB_ID: "j",
  });
  t.is(harnessVariables({ ...facts, optionsFile: "/s/o" })["PIPELINE_OPTIONS_FILE"], "/s/o");
});

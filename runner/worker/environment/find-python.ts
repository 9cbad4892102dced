/**
 * Finds the Python that runs a harness: the one in WEIR_PYTHON, else the first in PATH that has apache_beam. Where an
 * image is replaced, its Python version is wanted too: pickled functions do not survive a change of minor version.
 */
import { execFile } from "node:child_process";
import { userError } from "../../base/errors.ts";

export interface PythonInstallation {
  /** sys.executable: absolute. */
  readonly executable: string;
  /** Such as "3.11". */
  readonly version: string;
  /** Folders that a virtual environment made by it does not see: those of a virtual environment that it is itself. */
  readonly ownSitePackages: readonly string[];
  /** Where apache_beam lies, and its version: the harness changes when they do. */
  readonly beam: string;
}

interface Probe extends PythonInstallation {
  readonly hasBeam: boolean;
}

const PROBE_MS = 30_000;

// find_spec and metadata instead of an import: importing apache_beam takes seconds.
const PROBE = `
import importlib.metadata, importlib.util, json, site, sys
spec = importlib.util.find_spec("apache_beam")
try:
  beam_version = importlib.metadata.version("apache-beam")
except importlib.metadata.PackageNotFoundError:
  beam_version = ""
own = site.getsitepackages() if sys.prefix != sys.base_prefix else []
print(json.dumps({"executable": sys.executable, "version": "%d.%d" % sys.version_info[:2], "ownSitePackages": own,
  "hasBeam": spec is not None, "beam": "%s %s" % (beam_version, spec.origin if spec else "")}))
`;

/** @throws WeirError that says which Pythons were tried and what each lacks. */
export async function findPython(env: Readonly<Record<string, string | undefined>>): Promise<PythonInstallation> {
  const given = env["WEIR_PYTHON"];
  const wanted = env["WEIR_PYTHON_VERSION"];
  const candidates =
    given !== undefined && given !== ""
      ? [given]
      : [...(wanted === undefined ? [] : [`python${wanted}`]), "python3", "python"];
  const tried: string[] = [];
  for (const candidate of candidates) {
    const probe = await ask(candidate);
    if (typeof probe === "string") tried.push(`${candidate}: ${probe}`);
    else if (!probe.hasBeam) tried.push(`${candidate} (${probe.executable}): has no apache_beam`);
    else if (wanted !== undefined && probe.version !== wanted)
      tried.push(`${candidate} (${probe.executable}): is Python ${probe.version}, the environment is for ${wanted}`);
    else return probe;
  }
  throw userError(
    "FAILED_PRECONDITION",
    `No Python with apache-beam was found. ${tried.join("; ")}.`,
    "Set WEIR_PYTHON to a Python that has the pipeline's version of apache-beam.",
  );
}

function ask(command: string): Promise<Probe | string> {
  return new Promise((resolve) => {
    execFile(command, ["-c", PROBE], { timeout: PROBE_MS }, (failure, stdout, stderr) => {
      if (failure === null) {
        const lastLine = stdout.trim().split("\n").at(-1) ?? "";
        resolve(JSON.parse(lastLine) as Probe);
      } else if (failure.code === "ENOENT") resolve("not found");
      else resolve(stderr.trim().split("\n").at(-1) || failure.message);
    });
  });
}

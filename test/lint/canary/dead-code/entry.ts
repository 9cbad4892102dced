import { imported } from "./exports.ts";

process.exitCode = imported;

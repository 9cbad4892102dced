/** For tests in Python: installs one of the storage servers, by its key in STORAGE_SERVERS, and prints its folder. */
import { STORAGE_SERVERS } from "./storage-servers.ts";

const name = process.argv[2] ?? "";
const server = Object.entries(STORAGE_SERVERS).find(([key]) => key === name)?.[1];
if (server === undefined) throw new Error(`${name} is none of ${Object.keys(STORAGE_SERVERS).join(", ")}`);
console.log(await server.tool.install());

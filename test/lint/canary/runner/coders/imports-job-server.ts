// A fixture that the import rule must refuse: coders know only base.
import { secret } from "../job-server/secret.ts";

export const copy = secret;

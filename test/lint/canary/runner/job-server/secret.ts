// Imported by a fixture that the import rule must refuse.
export const secret = 1;

export const imported = 0;
export const neverImported = 1;

// A fixture that prettier must refuse.
export const  spaced = [1,2 ];

/** The character classes of XML 1.0 (fifth edition), by code point; surrogates never get this far. */

/** Production 2, Char. */
export function isCharacter(point: number): boolean {
  if (point < 0x20) return point === 0x09 || point === 0x0a || point === 0x0d;
  return point < 0xd800 || (point >= 0xe000 && point !== 0xfffe && point !== 0xffff && point <= 0x10ffff);
}

/** Production 3, S. */
export function isSpace(point: number): boolean {
  return point === 0x20 || point === 0x0a || point === 0x0d || point === 0x09;
}

/**
 * Production 4, NameStartChar, without U+1680 and U+FEFF: JavaScript's `\s` takes these two for white space, so a
 * reader built on it would cut a name there and see another element than the one that was framed.
 */
export function isNameStart(point: number): boolean {
  if (point < 0x80) {
    return (point >= 0x61 && point <= 0x7a) || (point >= 0x41 && point <= 0x5a) || point === 0x5f || point === 0x3a;
  }
  if (point === 0x1680 || point === 0xfeff) return false;
  return NAME_STARTS.some(([lowest, highest]) => point >= lowest && point <= highest);
}

/** Production 4a, NameChar, with the same exception. */
export function isNameCharacter(point: number): boolean {
  if (point < 0x80) return isNameStart(point) || (point >= 0x30 && point <= 0x39) || point === 0x2d || point === 0x2e;
  return (
    isNameStart(point) || point === 0xb7 || (point >= 0x300 && point <= 0x36f) || (point >= 0x203f && point <= 0x2040)
  );
}

const NAME_STARTS: readonly (readonly [lowest: number, highest: number])[] = [
  [0xc0, 0xd6],
  [0xd8, 0xf6],
  [0xf8, 0x2ff],
  [0x370, 0x37d],
  [0x37f, 0x1fff],
  [0x200c, 0x200d],
  [0x2070, 0x218f],
  [0x2c00, 0x2fef],
  [0x3001, 0xd7ff],
  [0xf900, 0xfdcf],
  [0xfdf0, 0xfffd],
  [0x10000, 0xeffff],
];

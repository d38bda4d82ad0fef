import { test } from "uvu";

export type Stories = { readonly [sentence: string]: () => Promise<void> };

/** Tests that wait most of their time: all begin with the first, and each is judged by itself. */
export function together(stories: Stories): void {
  inRows(Object.entries(stories).map(([sentence, story]) => ({ [sentence]: story })));
}

/** The same in rows: the rows begin with the first test, and in each a test begins when the one before it is over. */
export function inRows(rows: readonly Stories[]): void {
  const told = new Map<string, Promise<void>>();
  function begin(): void {
    for (const row of rows) {
      let before = Promise.resolve();
      for (const [sentence, story] of Object.entries(row)) {
        const mine = before.then(story);
        // Awaited by its own test, which may be a while; what fails holds up nobody.
        before = mine.catch(() => {});
        told.set(sentence, mine);
      }
    }
  }
  for (const sentence of rows.flatMap((row) => Object.keys(row))) {
    test(sentence, async () => {
      if (told.size === 0) begin();
      await told.get(sentence);
    });
  }
}

export function rest(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

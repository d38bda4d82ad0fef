import { test } from "uvu";

/** Tests that wait most of their time: all begin with the first, and each is judged by itself. */
export function together(stories: { readonly [sentence: string]: () => Promise<void> }): void {
  let begun: Promise<void>[] | null = null;
  Object.keys(stories).forEach((sentence, index) => {
    test(sentence, async () => {
      begun ??= Object.values(stories).map((story) => {
        const told = story();
        // Awaited by its own test, which may be a while.
        told.catch(() => {});
        return told;
      });
      await begun[index];
    });
  });
}

export function rest(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** What holds at the doors while this node has too much to do (actors/supervisors/overload): told by it, asked at each turn. */
import { type Level, PUTS_OFF, REFUSES } from "../actors/supervisors/overload.ts";

export type Pressure = {
  readonly onLevel: (level: Level) => void;
  /** This part of those that keep a connection is to come again elsewhere, over the next seconds. */
  readonly part: (part: number) => void;
  /** What cannot be done at once is put off. */
  putsOff(): boolean;
  /** Who is new is let in no more; whoever asks whether this node lives is answered all the same. */
  refuses(): boolean;
  /** By chance: whether this connection is to be ended with its answer. */
  parts(): boolean;
};

const PARTING_MS = 2_000;

export function openPressure(): Pressure {
  let level: Level = 0;
  let parting = { part: 0, until: 0 };
  return {
    onLevel(next) {
      level = next;
    },
    part(part) {
      parting = { part, until: performance.now() + PARTING_MS };
    },
    putsOff: () => level >= PUTS_OFF,
    refuses: () => level >= REFUSES,
    parts: () => parting.part > 0 && performance.now() < parting.until && Math.random() < parting.part,
  };
}

/** Whether what one connection was told of a page may have been told so. */
import { type StatusText, TRANSPORTS } from "../domain.ts";

/** Every rung once and in order, but for ACCEPTED and the rung it stands on, said again to as many repeats as were sent. */
export function rises(statuses: readonly StatusText[], repeats: number): boolean {
  let top = -1;
  let answers = 0;
  let answering = false;
  for (const status of statuses) {
    const rank = (TRANSPORTS as readonly StatusText[]).indexOf(status);
    if (rank === 0 && top >= 0) {
      answers += 1;
      answering = true;
    } else if (rank < top || (rank === top && !answering)) return false;
    else {
      top = rank;
      answering = false;
    }
  }
  return answers <= repeats;
}

/** How a trace speaks of times and numbers. */

/** The largest unit that gives at least two of it, so that "90 s" is not told as "1 min". */
export function span(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} days`;
}

export function ago(now: number, at: number): string {
  return `${span(now - at)} ago`;
}

/** In UTC, since who reads it may be anywhere; with the day where that is another. */
export function by(now: number, at: number): string {
  const [day, time] = new Date(at).toISOString().slice(0, 19).split("T") as [string, string];
  const when = day === new Date(now).toISOString().slice(0, 10) ? time : `${day} ${time}`;
  return `by ${when} UTC (in ${span(at - now)})`;
}

export function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

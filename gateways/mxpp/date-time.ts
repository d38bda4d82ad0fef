/**
 * The date and time a host wrote. The seed gives only `{DATE_TIME}`, so these are read: ISO 8601 (`T` or a blank, with
 * or without seconds, fraction and zone) and the American form of .NET, in 24 or 12 hours. Without a zone it is UTC.
 */

const ISO = /^(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?: ?(Z|[+-]\d\d(?::?\d\d)?))?$/i;
// Newer .NET writes U+202F, a narrow no-break space, before AM and PM.
const AMERICAN =
  /^(\d{1,2})\/(\d{1,2})\/(\d{4}) (\d{1,2}):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(?:[ \u00a0\u202f]?([AP])M)?$/i;

/** Milliseconds since 1970 (cut, not rounded), or null for what is none of these or no real date. */
export function readDateTime(text: string): number | null {
  const iso = ISO.exec(text);
  if (iso !== null) {
    const [, year, month, day, hour, minute, second, fraction, zone] = iso;
    const at = instant(Number(year), Number(month), Number(day), Number(hour), Number(minute), second, fraction);
    const offset = offsetOf(zone ?? "Z");
    return at === null || offset === null ? null : at - offset;
  }
  const american = AMERICAN.exec(text);
  if (american === null) return null;
  const [, month, day, year, hour, minute, second, fraction, half] = american;
  const hours = half === undefined ? Number(hour) : hourOfDay(Number(hour), half);
  return hours === null
    ? null
    : instant(Number(year), Number(month), Number(day), hours, Number(minute), second, fraction);
}

function hourOfDay(hour: number, half: string): number | null {
  if (hour < 1 || hour > 12) return null;
  return (hour % 12) + (half.toUpperCase() === "P" ? 12 : 0);
}

function instant(
  year: number,
  month: number,
  day: number,
  hour: number,
  minute: number,
  second = "0",
  fraction = "",
): number | null {
  if (hour > 23 || minute > 59 || Number(second) > 59) return null;
  const date = new Date(0);
  // Date.UTC would take the years 0 to 99 for 1900 to 1999.
  date.setUTCFullYear(year, month - 1, day);
  if (date.getUTCFullYear() !== year || date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day) return null;
  return date.setUTCHours(hour, minute, Number(second), Number(fraction.padEnd(3, "0").slice(0, 3)));
}

/** Milliseconds east of UTC, at most 14 hours either way. */
function offsetOf(zone: string): number | null {
  if (zone.toUpperCase() === "Z") return 0;
  const hours = Number(zone.slice(1, 3));
  const minutes = Number(zone.slice(3).replace(":", "") || "0");
  if (hours > 14 || minutes > 59) return null;
  return (zone.startsWith("-") ? -1 : 1) * (hours * 60 + minutes) * 60_000;
}

// Numbers and times as people read them. Times stand in the zone of the store, whatever zone the reader is in.

const integers = new Intl.NumberFormat();
const percents = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1, signDisplay: "exceptZero" });
const shares = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });

export const integer = (value) => integers.format(value);
export const change = (value) => percents.format(value);
export const share = (part, whole) => shares.format(whole ? part / whole : 0);

/** `1 visitor`, `2 visitors`. */
export const counted = (count, noun) => `${integer(count)} ${noun}${count === 1 ? "" : "s"}`;

/** `2016-07-11T13:39:00+02:00` as plotly wants it: the local time, without its offset. */
export const local = (datetime) => datetime.slice(0, 19);

/** The same as it is read: a date, and the time of day where it says something. */
export function moment(datetime, by = "minute") {
  const [date, clock] = datetime.split("T");
  return by === "minute" || by === "hour" ? `${date} ${clock.slice(0, 5)}` : date;
}

const zones = new Map();

/** Unix seconds in a time zone. */
export function instant(seconds, timezone) {
  if (seconds === null) return "none yet";
  if (!zones.has(timezone)) zones.set(timezone, formatter(timezone));
  return `${zones.get(timezone).format(new Date(seconds * 1000)).replace(",", "")} ${timezone}`;
}

function formatter(timezone) {
  const style = { dateStyle: "short", timeStyle: "medium", hourCycle: "h23" };
  try {
    return new Intl.DateTimeFormat("sv-SE", { ...style, timeZone: timezone });
  } catch {
    return new Intl.DateTimeFormat("sv-SE", { ...style, timeZone: "UTC" }); // a zone that this browser does not know
  }
}

/** `minute 3, day 1`, or `none`. */
export function listed(counts) {
  const parts = Object.entries(counts).map(([name, count]) => `${name} ${integer(count)}`);
  return parts.join(", ") || "none";
}

/** `7d` as `7 days`. */
export function span(window) {
  const length = Number(window.slice(0, -1));
  const unit = { d: "day", h: "hour", m: "minute" }[window.slice(-1)];
  return window === "1d" ? "Today" : counted(length, unit);
}

// The triangle of cohorts: a row for each day, week or month, and in it how many of its new visitors came back when.

import { element, find } from "./parts.js";
import { counted, integer, moment, share } from "./words.js";

const SHADES = 5;

/** What the triangle says, in a sentence: how many come back in the next period, all cohorts together. */
export function cohortsSummary({ by, periods, since_ts: since, start_ts: start }) {
  const told = periods.filter((one, at) => at + 1 < periods.length && periods[at + 1].status !== "provisional");
  const sum = (pick) => told.reduce((total, one) => total + pick(one), 0);
  const fresh = sum((one) => one.new);
  if (!periods.length) return "No visits there.";
  const words = [];
  if (fresh) {
    words.push(`Of ${counted(fresh, "visitor")} first seen in ${counted(told.length, by)}, `
      + `${share(sum((one) => one.returned[1]), fresh)} came back in the next ${by}.`);
  }
  const last = periods.at(-1);
  if (last.status === "provisional") words.push(`${moment(last.datetime, by)} is not over: what is in italics may grow.`);
  if (since >= start) words.push("Nobody is known from before.");
  return words.join(" ");
}

/** The triangle as a table: parts of each cohort, the darker the more. */
export function showCohorts(id, { by, periods }) {
  const head = [by, "new", ...periods.slice(1).map((_, at) => `+${at + 1}`)];
  const names = head.map((text, at) => element("th", { text, scope: "col", kind: at ? "number" : "text" }));
  const rows = periods.map((cohort, number) => {
    const first = element("th", { text: moment(cohort.datetime, by), scope: "row" });
    const fresh = element("td", { text: integer(cohort.new), kind: "number" });
    const cells = cohort.returned.slice(1).map((count, at) => cell(count, cohort.new, periods[number + at + 1]));
    return element("tr", { children: [first, fresh, ...cells] });
  });
  const table = element("table", { kind: "triangle", children: [
    element("thead", { children: [element("tr", { children: names })] }),
    element("tbody", { children: rows }),
  ] });
  find(id).replaceChildren(table);
}

function cell(count, whole, period) {
  const shade = whole ? Math.ceil((count / whole) * SHADES) : 0;
  const open = period.status === "provisional" ? " open" : "";
  const text = whole ? share(count, whole) : "–";
  return element("td", { text, kind: `number shade-${shade}${open}`, title: counted(count, "visitor") });
}

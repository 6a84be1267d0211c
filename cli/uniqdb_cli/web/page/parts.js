// The parts of the page that are not charts. Text is only ever set as text.

import { change, instant, integer, listed, span } from "./words.js";

export const find = (id) => document.getElementById(id);

/** An element with a class and a text, or with children. */
export function element(tag, { text = "", kind = "", children = [], ...attributes } = {}) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text !== "") made.textContent = text;
  made.append(...children);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** The big numbers. */
export function showWindows(found) {
  find("windows").replaceChildren(...found.windows.map(card));
  find("windows").setAttribute("aria-busy", "false");
}

function card({ window, current, before, change: changed, refused }) {
  const children = [element("h3", { text: span(window) })];
  if (!current) {
    children.push(element("span", { kind: "big", text: "–" }), element("p", { text: refused.detail }));
    return element("li", { children, "data-window": window });
  }
  const first = current.datetime.slice(0, 10);
  const dates = current.as_of === first ? first : `since ${first}`;
  const number = element("span", { kind: "big", text: integer(current.count), "data-count": current.count });
  const soFar = current.status === "provisional" ? " so far" : "";
  children.push(number, against(changed, before, soFar), element("p", { text: dates }));
  if (current.status === "provisional") {
    children.push(element("p", { children: [element("span", { kind: "mark", text: current.status })] }));
  }
  return element("li", { children, "data-window": window });
}

function against(changed, before, soFar) {
  if (changed === null) {
    const text = before && before.count ? `${integer(before.count)} before, in less time` : "nothing before it";
    return element("p", { text, kind: "against" });
  }
  const kind = changed > 0 ? "more" : changed < 0 ? "fewer" : "same";
  const sign = changed > 0 ? "▲" : changed < 0 ? "▼" : "=";
  const how = element("span", { kind, text: change(changed) });
  const arrow = element("span", { kind, text: `${sign} `, "aria-hidden": "true" });
  return element("p", { kind: "against", children: [arrow, how, `${soFar} from ${integer(before.count)}`] });
}

/** What is not in the counts, and up to when they are. */
export function showFacts(status, quarantine) {
  const reasons = quarantine.reasons.filter((one) => one.count).map((one) => `${one.reason} ${integer(one.count)}`);
  const rows = [
    ["Clock", instant(status.clock_ts, status.timezone)],
    ["Final up to", instant(status.closed_through_ts, status.timezone)],
    ["Newest visit", instant(status.newest_visit_ts, status.timezone)],
    ["Visits", `${integer(status.visits)} by ${integer(status.visitors)} visitors since ${instant(status.first_visit_ts, status.timezone)}`],
    ["Came late, amended", listed(status.late)],
    ["Quarantined", reasons.length ? `${integer(quarantine.count)}: ${reasons.join(", ")}` : "none"],
    ["Held, expired", `${integer(status.held)}, ${integer(status.expired)}`],
  ];
  if (status.gaps) rows.push(["Never read", `${integer(status.gaps)} stretches of topics`]);
  if (status.lost_spans) rows.push(["Lost to damage", `${integer(status.lost_spans)} stretches of time`]);
  const made = rows.flatMap(([name, value]) => [element("dt", { text: name }), element("dd", { text: value })]);
  find("facts").replaceChildren(...made);
  find("version").textContent = `uniqdb ${status.version}, commit ${integer(status.commit)}.`;
  find("as-of").textContent = `As of ${instant(status.clock_ts ?? status.newest_visit_ts, status.timezone)}`;
  const head = ["Source", "State", "Complete up to", "Visits#", "Refused#", "Held#"];
  showTable("sources", head, () => status.sources.map((one) => [
    one.name, one.state, instant(one.clock_ts, status.timezone), integer(one.accepted), integer(one.refused), integer(one.held),
  ]));
}

const waiting = new Map();
const filled = new WeakMap();

/** Rows for a table that is folded away; they are made when somebody looks. `#` ends the name of a column of numbers. */
export function showTable(id, head, rows) {
  const details = find(id);
  if (!waiting.has(id)) details.addEventListener("toggle", () => details.open && waiting.get(id)());
  waiting.set(id, () => fillTable(details.querySelector(".scroll"), head, rows()));
  if (details.open) waiting.get(id)();
}

function fillTable(place, head, rows) {
  // Whoever marks or scrolls in it is only disturbed by what is new.
  const content = JSON.stringify(rows);
  if (filled.get(place) === content) return;
  filled.set(place, content);
  const kinds = head.map((name) => (name.endsWith("#") ? "number" : "text"));
  const names = head.map((name, at) => element("th", { kind: kinds[at], text: name.replace("#", ""), scope: "col" }));
  const body = rows.map((row) => element("tr", { children: row.map((text, at) => element("td", { kind: kinds[at], text })) }));
  const table = element("table", { children: [
    element("thead", { children: [element("tr", { children: names })] }),
    element("tbody", { children: body }),
  ] });
  place.replaceChildren(table);
}

/** What went wrong, until it is well again. */
export function showTrouble(text) {
  const place = find("trouble");
  if (place.textContent !== text) place.textContent = text;
  place.hidden = !text;
}

// What is asked when: the numbers first, then the charts, then again whenever the store has a new commit.

import { Refused, address, ask } from "./api.js";
import { drawAgain, drawMinutes, drawSeries, drawSplit, drawSticky, seriesSummary } from "./charts.js";
import { cohortsSummary, showCohorts } from "./cohorts.js";
import { find, showFacts, showTable, showTrouble, showWindows } from "./parts.js";
import { counted, integer, moment, share } from "./words.js";

const LOOK_MS = 2_000; // so often it is asked whether there is a new commit
const REFRESH_MS = 5_000; // so often, at most, the numbers and the charts of days are worked out anew
const PATIENCE_MS = 30_000; // the longest pause while the server does not answer
const POINTS_MAX = 3_000;
const SPLITS_MAX = 400;
const PER_DAY = { minute: 1_440, hour: 24, day: 1, week: 1 / 7, month: 1 / 30, year: 1 / 365 };
const AHEAD_S = 1_800;

// ---------------------------------------------------------------- what is chosen
function days() {
  const range = find("range").value;
  if (range === "24h") return 1;
  if (range !== "dates") return Number(range.slice(0, -1));
  const length = (Date.parse(find("to").value) - Date.parse(find("from").value)) / 86_400_000 + 1;
  return length > 0 ? length : 1;
}

/** The granularity that is chosen or, where that would be too much or nothing is chosen, one that fits. */
function granularity() {
  const wanted = find("by").value;
  if (wanted && days() * PER_DAY[wanted] <= POINTS_MAX) return wanted;
  if (days() <= 7) return "hour";
  return days() <= 800 ? "day" : "month";
}

function range() {
  const chosen = find("range").value;
  return chosen === "dates" ? { from: find("from").value, to: find("to").value } : { last: chosen };
}

const question = () => ({ by: granularity(), ...range(), fill: "yes", compare: find("compare").checked ? "yes" : "" });

function splitQuestion() {
  const by = granularity();
  const fitting = ["minute", "hour", "day", "week", "month", "year"].filter((one) => PER_DAY[one] <= PER_DAY[by]);
  return { by: fitting.find((one) => days() * PER_DAY[one] < SPLITS_MAX) ?? "year", ...range() };
}

const stickyQuestion = () => range();
const cohortsQuestion = () => ({ by: find("cohorts-by").value });

/** Fields and links that follow from the choice. */
function settle() {
  for (const one of document.querySelectorAll(".dates")) one.hidden = find("range").value !== "dates";
  for (const one of find("by").options) one.disabled = Boolean(one.value) && days() * PER_DAY[one.value] > POINTS_MAX;
  find("series-csv").href = address("/api/series", { ...question(), format: "csv" });
  find("sticky-csv").href = address("/api/stickiness", { ...stickyQuestion(), format: "csv" });
  find("cohorts-csv").href = address("/api/cohorts", { ...cohortsQuestion(), format: "csv" });
  find("split-csv").href = address("/api/returning", { ...splitQuestion(), format: "csv" });
}

// ---------------------------------------------------------------- what is shown
const latest = new Map();

/** Ask and show; of two answers to one place only that to the later question counts. */
async function show(place, path, parameters, draw) {
  const mine = {};
  latest.set(place, mine);
  try {
    const { body } = await ask(path, parameters);
    if (latest.get(place) === mine) await draw(body);
  } catch (error) {
    if (!(error instanceof Refused) || error.status === 0 || error.status === 503) throw error;
    if (latest.get(place) === mine) find(`${place}-summary`).textContent = error.message; // of this question only
  }
}

const showSeries = () => show("series", "/api/series", question(), async (found) => {
  find("series-summary").textContent = seriesSummary(found);
  const rows = () => found.records.map((one, at) => [
    moment(one.datetime, found.by), integer(one.count), integer(one.visits), one.status,
    found.before?.[at] ? integer(found.before[at].count) : "",
  ]);
  showTable("series-table", ["From", "Visitors#", "Visits#", "Status", "Period before#"], rows);
  await drawSeries("series-chart", found);
  find("series-chart").dataset.shown = JSON.stringify(question());
});

const showSplit = () => show("split", "/api/returning", splitQuestion(), async (found) => {
  const words = `${counted(found.count, "visitor")}: ${integer(found.new)} new (${share(found.new, found.count)}), `
    + `${integer(found.returning)} seen before (${share(found.returning, found.count)}).`;
  find("split-summary").textContent = found.count ? words : "No visits there.";
  const rows = () => found.buckets.map((one) => [
    moment(one.datetime, found.by), integer(one.count), integer(one.new), integer(one.returning), one.status,
  ]);
  showTable("split-table", ["From", "Visitors#", "New#", "Returning#", "Status"], rows);
  await Promise.all([drawSplit("split-chart", found), showOverlap(found)]);
  find("split-chart").dataset.shown = JSON.stringify(splitQuestion());
});

/** Who of a range was there in the time before it, too: the very range that is told apart above. */
async function showOverlap({ start_ts: from, end_ts: to }) {
  find("overlap-summary").hidden = from === to;
  if (from === to) return;
  await show("overlap", "/api/overlap", { from: String(from), to: String(to), with: "previous" }, (found) => {
    const before = `the time of the same length before, which had ${counted(found.other_count, "visitor")}`;
    find("overlap-summary").textContent = `${integer(found.both)} (${share(found.both, found.count)}) were also there in ${before}.`;
  });
}

const showSticky = () => show("sticky", "/api/stickiness", stickyQuestion(), async (found) => {
  const days = counted(found.days_averaged, "day"), isWhole = found.days.some((one) => one.complete && one.mau);
  find("sticky-summary").textContent = found.dau_mau === null ? "No visits there."
    : `On an average day ${share(found.dau_mau, 1)} of the visitors of the last 30 days come, and `
    + `${share(found.dau_wau ?? 0, 1)} of those of 7 days (over ${days}${isWhole ? "" : ", none of them complete"}).`;
  const rows = () => found.days.map((one) => [
    moment(one.datetime, "day"), integer(one.dau), integer(one.wau), integer(one.mau),
    share(one.dau, one.wau), share(one.dau, one.mau), one.complete ? "yes" : "no",
  ]);
  showTable("sticky-table", ["Day", "Visitors#", "Of 7 days#", "Of 30 days#", "Day/7#", "Day/30#", "Complete"], rows);
  await drawSticky("sticky-chart", found);
  find("sticky-chart").dataset.shown = JSON.stringify(stickyQuestion());
});

const showTriangle = () => show("cohorts", "/api/cohorts", cohortsQuestion(), (found) => {
  find("cohorts-summary").textContent = cohortsSummary(found);
  showCohorts("cohorts", found);
  find("cohorts").dataset.shown = found.by;
});

/** The last minutes up to the newest visit; but where that is far ahead of the clock, it may be a wrong one. */
function liveQuestion(status) {
  const { clock_ts: clock, newest_visit_ts: newest } = status;
  const end = clock !== null && newest > clock + AHEAD_S ? clock : Math.max(clock ?? 0, newest ?? 0);
  return { by: "minute", last: "60m", fill: "yes", as_of: end ? String(end) : "" };
}

const showLive = (status) => show("live", "/api/series", liveQuestion(status), async ({ records }) => {
  const newest = records.at(-1);
  find("live-summary").textContent = newest
    ? `${moment(newest.datetime)}: ${counted(newest.count, "visitor")}, ${counted(newest.visits, "visit")}, ${newest.status}.`
    : "No visits yet.";
  find("live-chart").dataset.newest = newest ? newest.datetime : "";
  find("live-csv").href = address("/api/series", { ...liveQuestion(status), format: "csv" });
  const rows = () => [...records].reverse().map((one) => [
    moment(one.datetime), integer(one.count), integer(one.visits), one.status,
  ]);
  showTable("live-table", ["Minute", "Visitors#", "Visits#", "Status"], rows);
  await drawMinutes("live-chart", records);
});

/** Dates to begin with: those of the last 30 days, by the store's clock. */
function proposeDates({ windows }) {
  const month = windows.find((one) => one.window === "30d")?.current;
  if (!month || find("to").value) return;
  find("from").value = month.datetime.slice(0, 10);
  find("to").value = month.as_of;
}

/** The numbers and, as soon as they stand, the charts. */
async function showAll(status) {
  const [windows, quarantine] = await Promise.all([ask("/api/trailing"), ask("/api/quarantine")]);
  showWindows(windows.body);
  proposeDates(windows.body);
  showFacts(status, quarantine.body);
  await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve))); // they are on the screen
  if (shownTag === null) performance.mark("numbers");
  await Promise.all([showSeries(), showSplit(), showLive(status), showSticky(), showTriangle()]);
}

// ---------------------------------------------------------------- again and again
let shownTag = null;
let shownAtMs = -Infinity;
let pauseMs = LOOK_MS;

async function look() {
  try {
    const { body: status, etag } = await ask("/api/status");
    if (etag !== shownTag) {
      readAloud(false);
      if (performance.now() - shownAtMs >= REFRESH_MS) {
        shownAtMs = performance.now();
        await showAll(status);
        shownTag = etag;
      } else {
        await showLive(status); // cheap; the rest follows with the next look
      }
    }
    showTrouble("");
    pauseMs = LOOK_MS;
  } catch (error) {
    if (!(error instanceof Refused)) console.error(error);
    showTrouble(error.status === 404 ? "The store has no visits yet." : `${error.message} Trying again…`);
    pauseMs = Math.min(2 * pauseMs, PATIENCE_MS);
  }
}

async function follow() {
  if (!document.hidden && (find("follow").checked || shownTag === null)) await look();
  setTimeout(follow, pauseMs);
}

// ---------------------------------------------------------------- colours
const system = matchMedia("(prefers-color-scheme: dark)");

function paint() {
  document.documentElement.dataset.theme = find("theme").value || (system.matches ? "dark" : "light");
  drawAgain();
}

function chooseTheme() {
  localStorage.setItem("theme", find("theme").value);
  paint();
}

// ---------------------------------------------------------------- the start
/** Whether the sentences above the charts are read aloud when they change: after a choice, not every few seconds. */
function readAloud(isOn) {
  for (const place of ["series", "split", "overlap", "sticky", "cohorts"]) find(`${place}-summary`).setAttribute("aria-live", isOn ? "polite" : "off");
}

/** After a choice: what depends on it, anew. */
async function choose(...shows) {
  settle();
  readAloud(true);
  try {
    await Promise.all(shows.map((one) => one()));
  } catch (error) {
    showTrouble(`${error.message} Trying again…`);
    shownTag = null; // the next look shows everything
  }
}

find("theme").value = localStorage.getItem("theme") ?? "";
find("theme").addEventListener("change", chooseTheme);
system.addEventListener("change", paint);
for (const id of ["range", "from", "to", "by", "compare"]) {
  find(id).addEventListener("change", () => choose(showSeries, showSplit, showSticky));
}
find("cohorts-by").addEventListener("change", () => choose(showTriangle));
find("controls").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("visibilitychange", () => !document.hidden && look());
paint();
settle();
follow();

// The charts. Plotly is a large script: it is fetched once the numbers stand, and only from this server.

import { counted, integer, local, moment } from "./words.js";

const SCRIPT = "/assets/plotly.min.js";
const OPTIONS = { displayModeBar: false, responsive: true, showTips: false };
const drawn = new Map();
const axes = new Map();
let loading = null;

/** Plotly, when it is there. */
export function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = SCRIPT;
    script.onload = () => resolve(globalThis.Plotly);
    script.onerror = () => {
      loading = null; // asked for again by the next drawing
      reject(new Error("The charts could not be loaded."));
    };
    document.head.append(script);
  });
  return loading;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Draw, and remember how, for when the colours change. `steps`: what is special about the axis of the values. */
async function draw(id, make, steps = null) {
  drawn.set(id, make);
  axes.set(id, steps);
  const { react } = await plotly();
  if (drawn.get(id) !== make) return; // something newer is to be drawn
  const place = document.getElementById(id);
  const traces = make();
  const most = Math.max(1, ...traces.flatMap((one) => one.y));
  // There is no half of a visitor.
  await react(place, traces, layout(place, steps ?? (most <= 5 ? { dtick: 1 } : {})), OPTIONS);
}

/** Draw everything again in the colours that hold now. */
export function drawAgain() {
  for (const [id, make] of drawn) draw(id, make, axes.get(id));
}

function layout(place, steps) {
  const ink = colour("quiet");
  const axis = { gridcolor: colour("line"), linecolor: colour("line"), zeroline: false, automargin: true, fixedrange: true };
  return {
    autosize: true,
    height: place.clientHeight,
    margin: { l: 8, r: 8, t: 8, b: 8 },
    paper_bgcolor: colour("panel"),
    plot_bgcolor: colour("panel"),
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: ink },
    hovermode: "x unified",
    hoverlabel: { bgcolor: colour("paper"), bordercolor: colour("line"), font: { color: colour("ink") } },
    legend: { orientation: "h", traceorder: "normal", x: 0, y: 1.02, yanchor: "bottom", font: { color: colour("ink") } },
    showlegend: true,
    barmode: "stack",
    bargap: 0.15,
    xaxis: { ...axis, type: "date", showgrid: false },
    yaxis: { ...axis, rangemode: "tozero", separatethousands: true, tickformat: ",d", ...steps },
    dragmode: false,
  };
}

/** Visitors over time: what is final as a line, what is provisional dotted, the period before in the background. */
export function drawSeries(id, { records, before, by }) {
  const open = records.findIndex((one) => one.status === "provisional");
  const settled = open < 0 ? records : records.slice(0, open);
  const running = open < 0 ? [] : records.slice(Math.max(open - 1, 0));
  const hasMarkers = records.length <= 60;
  return draw(id, () => {
    const traces = [];
    if (before?.length) traces.push(beforeTrace(before, records, by));
    traces.push(line("visitors", settled, { color: colour("first"), width: 2 }, hasMarkers ? "lines+markers" : "lines", "circle"));
    if (running.length) {
      const dotted = { color: colour("first"), width: 2, dash: "dot" };
      traces.push(line("provisional", running, dotted, hasMarkers || running.length < 3 ? "lines+markers" : "lines", "circle-open"));
    }
    return traces;
  });
}

function line(name, records, style, mode, symbol) {
  return {
    type: "scatter", name, mode, line: style, marker: { symbol, size: 6, color: style.color },
    x: records.map((one) => local(one.datetime)), y: records.map((one) => one.count),
    hovertemplate: "%{y:,d}<extra>%{fullData.name}</extra>",
  };
}

/** The period before lies under the one that is shown: its n-th bucket under the n-th. */
function beforeTrace(before, records, by) {
  const step = records.length > 1 ? records[1].start_ts - records[0].start_ts : 0;
  const shift = records.length ? records[0].start_ts - before[0].start_ts : 0;
  const x = before.map((one, at) => local(records[at]?.datetime ?? new Date((one.start_ts + shift) * 1000).toISOString()));
  return {
    type: "scatter", name: "period before", mode: step && before.length > 1 ? "lines" : "markers", x,
    y: before.map((one) => one.count), text: before.map((one) => moment(one.datetime, by)),
    line: { color: colour("before"), width: 1.5, dash: "dash" },
    hovertemplate: "%{y:,d} on %{text}<extra>period before</extra>",
  };
}

/** New visitors on top of those who came back. */
export function drawSplit(id, { buckets }) {
  const x = buckets.map((one) => local(one.datetime));
  return draw(id, () => [
    bars("returning", x, buckets.map((one) => one.returning), colour("first")),
    bars("new", x, buckets.map((one) => one.new), colour("second")),
  ]);
}

/** Each day as a part of its week and of its month; hollow where the days are not complete. */
export function drawSticky(id, { days }) {
  const x = days.map((one) => local(one.datetime));
  const symbol = days.map((one) => (one.complete ? "circle" : "circle-open"));
  const part = (name, pick, ink) => ({
    type: "scatter", name, x, y: days.map(pick), mode: days.length > 60 ? "lines" : "lines+markers",
    line: { color: colour(ink), width: 2 }, marker: { symbol, size: 6, color: colour(ink) },
    hovertemplate: "%{y:.1%}<extra>%{fullData.name}</extra>",
  });
  return draw(id, () => [
    part("of 7 days", (one) => one.dau_wau, "second"), part("of 30 days", (one) => one.dau_mau, "first"),
  ], { tickformat: ".0%" });
}

/** Minute by minute; hollow is provisional. */
export function drawMinutes(id, records) {
  const x = records.map((one) => local(one.datetime));
  const of = (isOpen) => records.map((one) => ((one.status === "provisional") === isOpen ? one.count : null));
  return draw(id, () => {
    const open = bars("provisional", x, of(true), colour("panel"));
    open.marker.line = { color: colour("first"), width: 1.5 };
    return [bars("final", x, of(false), colour("first")), open];
  });
}

function bars(name, x, y, color) {
  return { type: "bar", name, x, y, marker: { color }, hovertemplate: "%{y:,d}<extra>%{fullData.name}</extra>" };
}

/** What a chart shows, in a sentence: for those who do not see it. */
export function seriesSummary({ records, before, by, timezone }) {
  if (!records.length) return "No visits there.";
  const most = records.reduce((best, one) => (one.count > best.count ? one : best));
  const least = records.reduce((best, one) => (one.count < best.count ? one : best));
  const words = [
    `${counted(records.length, by)}, ${moment(records[0].datetime, by)} to ${moment(records.at(-1).datetime, by)} (${timezone}).`,
    `Most ${integer(most.count)} on ${moment(most.datetime, by)}, least ${integer(least.count)} on ${moment(least.datetime, by)}.`,
  ];
  const amended = records.filter((one) => one.status === "amended").length;
  const open = records.filter((one) => one.status === "provisional").length;
  if (open) words.push(`Provisional: ${integer(open)}.`);
  if (amended) words.push(`Amended by late visits: ${integer(amended)}.`);
  if (before && !before.length) words.push("Nothing was counted in the period before.");
  return words.join(" ");
}

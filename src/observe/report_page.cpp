#include "report_page.hpp"

namespace switchyard::observe {
namespace {

constexpr std::string_view kPage = R"html(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Switchyard run</title>
<style>
:root { --ink: #1d2430; --soft: #5d6877; --line: #d9dfe7; --paper: #fbfcfd; --card: #ffffff; --accent: #1f6feb; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9f0; --soft: #98a4b3; --line: #313a46; --paper: #12161c; --card: #1a2028; --accent: #6ea8ff; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 24px; margin: 0 0 12px; }
h2 { font-size: 17px; margin: 0 0 2px; }
p.note { color: var(--soft); margin: 0 0 10px; font-size: 13px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 16px 18px; margin: 16px 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 18px; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 0 16px; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font-size: 11px; }
.key { display: flex; flex-wrap: wrap; gap: 4px 14px; font-size: 12px; color: var(--soft); margin-top: 6px; }
.key i { display: inline-block; width: 12px; height: 3px; margin-right: 5px; vertical-align: middle; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font: 13px/1.5 ui-monospace, monospace; }
table { border-collapse: collapse; font-size: 13px; width: 100%; }
td, th { text-align: left; padding: 2px 10px 2px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td code { background: var(--paper); border: 1px solid var(--line); border-radius: 4px; padding: 0 4px; margin-right: 4px; }
#tip { position: fixed; pointer-events: none; background: var(--ink); color: var(--paper); padding: 3px 8px;
  border-radius: 5px; font-size: 12px; display: none; z-index: 2; white-space: pre; }
.scroll { overflow-x: auto; }
select { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: 5px; }
</style>
<body>
<main id="page"><noscript>This report draws its charts with a script that is part of the page.</noscript></main>
<div id="tip"></div>
<script type="application/json" id="data">@@DATA@@</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const page = document.getElementById("page"), tip = document.getElementById("tip");
const SVG = "http://www.w3.org/2000/svg";
const palette = ["#1f6feb", "#d9480f", "#2f9e44", "#9c36b5", "#0b7285", "#e67700", "#c2255c", "#5c7cfa", "#74b816", "#868e96"];

function make(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  for (const child of children) node.append(child);
  return node;
}
function draw(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}
function section(parent, title, note) {
  const box = make("section", {}, make("h2", {}, title));
  if (note) box.append(make("p", {class: "note"}, note));
  parent.append(box);
  return box;
}
function showTip(event, text) {
  tip.textContent = text;
  tip.style.display = "block";
  const left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 6);
  tip.style.left = left + "px";
  tip.style.top = (event.clientY + 16) + "px";
}
function hideTip() { tip.style.display = "none"; }

function ticks(low, high, count) {
  const raw = (high - low) / count || 1, power = Math.pow(10, Math.floor(Math.log10(raw)));
  const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= raw * 0.999);
  const list = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) list.push(v);
  return list;
}
function short(v) {
  if (v !== 0 && Math.abs(v) < 0.001) return v.toExponential(1);
  return Math.abs(v) >= 1000 ? v.toLocaleString("en") : String(+v.toPrecision(4));
}

// series: [{name, points: [[x, y]...], dots}]
function chart(box, series, options) {
  series = series.filter(s => s.points.length > 0);
  if (series.length === 0) { box.append(make("p", {class: "note"}, "Nothing was recorded.")); return; }
  const W = 520, H = 250, left = 48, right = 10, top = 10, bottom = 30;
  const xs = series.flatMap(s => s.points.map(p => p[0])), ys = series.flatMap(s => s.points.map(p => p[1]));
  const xLow = Math.min(...xs), xHigh = Math.max(...xs);
  let yLow = options.zero ? 0 : Math.min(...ys), yHigh = Math.max(...ys);
  // The first steps of a loss tower over the rest; the axis follows what most of the run did.
  if (options.cut) { const sorted = [...ys].sort((a, b) => a - b); yHigh = sorted[Math.floor(0.97 * (sorted.length - 1))] * 1.15; }
  if (yHigh <= yLow) yHigh = yLow + 1;
  const X = x => left + (W - left - right) * (xHigh === xLow ? 0.5 : (x - xLow) / (xHigh - xLow));
  const Y = y => H - bottom - (H - top - bottom) * (Math.min(y, yHigh) - yLow) / (yHigh - yLow);
  const svg = draw("svg", {viewBox: `0 0 ${W} ${H}`, role: "img"});
  for (const v of ticks(yLow, yHigh, 5)) {
    svg.append(draw("line", {x1: left, x2: W - right, y1: Y(v), y2: Y(v), stroke: "var(--line)"}));
    svg.append(draw("text", {x: left - 6, y: Y(v) + 4, "text-anchor": "end"}, short(v)));
  }
  for (const v of ticks(xLow, xHigh, 6)) svg.append(draw("text", {x: X(v), y: H - 12, "text-anchor": "middle"}, short(v)));
  svg.append(draw("text", {x: W - right, y: H - 1, "text-anchor": "end"}, "step"));
  const key = make("div", {class: "key"});
  series.forEach((s, i) => {
    const color = palette[i % palette.length];
    const path = s.points.map((p, j) => (j ? "L" : "M") + X(p[0]).toFixed(1) + " " + Y(p[1]).toFixed(1)).join("");
    svg.append(draw("path", {d: path, fill: "none", stroke: color, "stroke-width": s.dots ? 1 : 1.6}));
    if (s.dots) for (const p of s.points) svg.append(draw("circle", {cx: X(p[0]), cy: Y(p[1]), r: 3.2, fill: color}));
    const swatch = make("i", {style: "background:" + color});
    const last = s.points[s.points.length - 1][1];
    key.append(make("span", {}, swatch, s.name + " (" + short(last) + ")"));
  });
  svg.addEventListener("mousemove", event => {
    const frame = svg.getBoundingClientRect(), x = (event.clientX - frame.left) * W / frame.width;
    const lines = series.map(s => {
      const near = s.points.reduce((a, b) => Math.abs(X(b[0]) - x) < Math.abs(X(a[0]) - x) ? b : a);
      return `${s.name}: ${short(near[1])} at step ${near[0]}`;
    });
    showTip(event, lines.slice(0, 14).join("\n"));
  });
  svg.addEventListener("mouseleave", hideTip);
  box.append(svg, key);
}

// 0 is cold, `middle` neutral, 2 * middle and more hot. Lightness differs too, for those who see no hue.
function heat(v, middle) {
  const t = Math.max(-1, Math.min(1, v / middle - 1));
  return t < 0 ? `hsl(212 ${Math.round(70 * -t)}% ${Math.round(88 - 40 * -t)}%)` : `hsl(16 ${Math.round(90 * t)}% ${Math.round(88 - 38 * t)}%)`;
}
// rows: [{label, values, names}]; a cell is one expert.
function heatmap(box, rows, describe) {
  const columns = Math.max(...rows.map(r => r.values.length));
  const labels = Math.max(...rows.map(r => r.label.length)) * 7 + 14;
  const size = Math.max(7, Math.min(30, Math.floor((960 - labels) / columns))), height = Math.min(26, Math.max(size, 16));
  const W = labels + columns * size + 4, H = rows.length * height + 22;
  const svg = draw("svg", {viewBox: `0 0 ${W} ${H}`, style: `width:${W}px;max-width:none`, role: "img"});
  rows.forEach((row, r) => {
    svg.append(draw("text", {x: labels - 8, y: r * height + height / 2 + 4, "text-anchor": "end"}, row.label));
    row.values.forEach((v, e) => {
      const cell = draw("rect", {x: labels + e * size, y: r * height, width: size - 1, height: height - 1,
        fill: v === 0 ? "var(--paper)" : heat(v, 1), stroke: v === 0 ? "#e03131" : "none", rx: 2});
      cell.addEventListener("mousemove", event => showTip(event, describe(row, e, v)));
      cell.addEventListener("mouseleave", hideTip);
      svg.append(cell);
    });
  });
  const every = Math.ceil(columns * 1.0 / Math.max(1, Math.floor(columns * size / 26)));
  for (let e = 0; e < columns; e += every) {
    svg.append(draw("text", {x: labels + e * size + size / 2 - 0.5, y: H - 6, "text-anchor": "middle"}, e));
  }
  box.append(make("div", {class: "scroll"}, svg));
  const key = make("div", {class: "key"});
  for (const [value, label] of [[0.001, "near 0"], [0.5, "half"], [1, "even (1)"], [1.5, "1.5"], [2, "twice or more"]]) {
    key.append(make("span", {}, make("i", {style: `height:12px;background:${heat(value, 1)}`}), label));
  }
  key.append(make("span", {}, "outlined in red: nothing at all"));
  box.append(key);
}

page.textContent = "";
document.title = data.title + " - Switchyard run";
page.append(make("h1", {}, data.title));
const facts = make("dl");
for (const [name, value] of data.facts) facts.append(make("dt", {}, name), make("dd", {}, value));
page.append(make("section", {}, facts));
const m = data.metrics;
if (m.warnings.length > 0) {
  const box = section(page, "Warnings");
  for (const [step, text] of m.warnings.slice(0, 20)) box.append(make("p", {class: "note"}, `step ${step}: ${text}`));
}
const first = make("div", {class: "pair"});
page.append(first);
chart(section(first, "Loss", "Bits per byte: training (mean of neighbouring steps) and held-out text."),
  [{name: "training", points: m.loss}, {name: "held out", points: m.held_out, dots: true}], {cut: true});
chart(section(first, "Gradient norm", "Before clipping."), [{name: "norm", points: m.gradient_norm}], {zero: true, cut: true});
if (m.max_violation.length > 0) {
  const second = make("div", {class: "pair"});
  page.append(second);
  chart(section(second, "Balance over time", "MaxVio = largest load / mean load - 1, a step. 0 is even."), m.max_violation, {zero: true, cut: true});
  chart(section(second, "Router entropy over time", "Nats a token. Lower is more decided."), m.entropy, {zero: true});
  if (m.drop_rate.some(s => s.points.some(p => p[1] > 0))) {
    chart(section(page, "Dropped assignments", "Share over capacity."), m.drop_rate, {zero: true});
  }
  if (m.reroute_rate.some(s => s.points.some(p => p[1] > 0))) {
    chart(section(page, "Re-routed assignments", "Share that capacity sent to another expert or to the shared one."), m.reroute_rate, {zero: true});
  }
}
const profile = data.profile;
if (profile) {
  const loads = section(page, "Expert load by layer", "Held-out text. A cell is an expert; 1 is the layer's mean load.");
  heatmap(loads, profile.layers.map(l => ({label: "layer " + l.layer, values: l.load, layer: l})), (row, e, v) =>
    `layer ${row.layer.layer}, expert ${e}: ${short(v)} x mean load\nlikes ${row.layer.favourites[e].join(" ") || "nothing in particular"}`);
  const dead = profile.layers.filter(l => l.dead.length > 0);
  loads.append(make("p", {class: "note"}, dead.length === 0 ? "No expert is dead on held-out text."
    : "Dead on held-out text: " + dead.map(l => `layer ${l.layer}: ${l.dead.join(", ")}`).join("; ")));
  if (profile.domains.length > 1) {
    const box = section(page, "Experts and domains",
      "The share of a domain's tokens that an expert gets, over the mean of that share across domains. 1 is no preference.");
    const rows = profile.layers.flatMap(l => profile.domains.map((d, x) => ({label: `layer ${l.layer}  ${d}`, values: l.preference[x], layer: l, domain: d})));
    heatmap(box, rows, (row, e, v) => `layer ${row.layer.layer}, expert ${e}\n${row.domain}: ${short(v)} x the mean over domains`);
  }
  const box = section(page, "Favourite tokens", "What each expert gets more often than its load explains.");
  const choice = make("select", {"aria-label": "layer"});
  for (const l of profile.layers) choice.append(make("option", {value: l.layer}, "layer " + l.layer));
  const body = make("tbody");
  function fill() {
    const l = profile.layers[choice.selectedIndex];
    body.textContent = "";
    l.favourites.forEach((tokens, e) => {
      const cell = make("td");
      for (const t of tokens) cell.append(make("code", {}, t));
      body.append(make("tr", {}, make("td", {}, String(e)), make("td", {}, short(l.load[e]) + " x"), cell));
    });
  }
  choice.addEventListener("change", fill);
  fill();
  box.append(choice, make("table", {}, make("thead", {}, make("tr", {}, make("th", {}, "expert"), make("th", {}, "load"), make("th", {}, "tokens"))), body));
}
if (data.sample) section(page, "A sample").append(make("pre", {}, data.sample));
</script>
</body>
</html>
)html";

}  // namespace

std::string_view report_page() { return kPage; }

}  // namespace switchyard::observe

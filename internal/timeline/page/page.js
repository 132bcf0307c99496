"use strict";
// The page around the picture: words, lists, what is selected.

const data = TimelineData.load(JSON.parse(document.getElementById("data").textContent));
const at = id => document.getElementById(id);
const stored = { get: k => { try { return localStorage.getItem(k); } catch { return null; } }, set: (k, v) => { try { localStorage.setItem(k, v); } catch { /* a file may have none */ } } };
let lang = stored.get("asyncio-lang") || (navigator.language.startsWith("zh") ? "zh" : "en");
let w = words[lang], list = "marks", results = [];

function el(tag, attrs, ...kids) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs || {})) if (k.startsWith("on")) e.addEventListener(k.slice(2), v); else if (v !== false) e.setAttribute(k, v);
  e.append(...kids.filter(k => k !== null && k !== undefined && k !== "").map(k => k instanceof Node ? k : String(k)));
  return e;
}

const laneName = (d, i) => { const t = d.tracks[i]; return t.name || w.lanes[t.kind] || "–"; };
const view = new TimelineView(at("lanes"), data, { select, hover, laneName });
const input = new TimelineInput(view, { help: () => at("help").showModal(), search: () => at("search").focus(), axis: () => axis(!view.axis.byTime) });

function axis(byTime) {
  view.setAxis(byTime);
  at("order").setAttribute("aria-pressed", !byTime);
  at("time").setAttribute("aria-pressed", byTime);
}

const taskName = i => data.processes.length > 1 ? `${data.processName(data.tracks[i].process)}/${laneName(data, i)}` : laneName(data, i);
const stepName = i => `${w.step0} ${i + 1}, ${taskName(data.steps[i].track)}`;
const stepTakes = i => { const s = data.steps[i]; return (s.end < 0 ? data.end : s.end) - s.begin; };

// select selects something and brings it into view; null selects nothing.
function select(s, reveal = true) {
  view.selected = s && (s.track !== undefined || s.mark !== undefined) ? s : null;
  if (view.selected && reveal) {
    const t = s.track, row = t === undefined ? (s.process ?? -1) < 0 ? 0 : view.rowOfProcess.get(s.process) : view.rowOf(t), y = view.y(row);
    if (y < top0 || y > view.h - rowHeight) view.top += y - top0 - view.lanesHeight() / 2;
    const p = s.step >= 0 ? view.axis.begin(s.step) : s.mark !== undefined ? view.spans.point(data.marks[s.mark].point) : null;
    if (p !== null && (p < view.from || p > view.from + view.width())) view.from = p - view.width() / 2;
  }
  view.changed();
  details();
}

function link(text, s) { return el("button", { type: "button", class: "link", onclick: () => { select(s); at("lanes").focus({ preventScroll: true }); } }, text); }
const stepLink = i => link(stepName(i), { track: data.steps[i].track, step: i });

function details() {
  const s = view.selected, out = at("details"), rows = [];
  const row = (name, ...values) => { if (values.some(v => v !== "" && v !== null && v !== undefined)) rows.push(el("dt", {}, name), el("dd", {}, ...values)); };
  let title = "";
  if (!s) { out.replaceChildren(el("p", { class: "dim" }, w.none)); return; }
  if (s.mark !== undefined) {
    const m = data.marks[s.mark];
    title = `${w.kinds[markKinds[m.kind]]}: ${m.text}`;
    row(w.at, duration(m.point.at));
    if (m.by) row(w.by, m.by.step >= 0 ? stepLink(m.by.step) : link(taskName(m.by.track), { track: m.by.track }));
    if (s.step >= 0) row(w.step, stepLink(s.step));
  }
  if (s.step >= 0) {
    const p = data.steps[s.step], wait = data.tracks[p.track].waits.find(i => data.waits[i].after === s.step);
    if (!title) title = stepName(s.step);
    if (s.mark === undefined) row(w.at, duration(p.begin));
    if (!data.simulated || stepTakes(s.step) > 0) row(w.takes, duration(stepTakes(s.step)));
    row(w.from, p.from);
    if (p.woken >= 0) row(w.woken, stepLink(p.woken));
    for (const i of p.in) if (data.arrows[i].kind === 1) arrowRow(row, w.gets, i, "from");
    if (wait !== undefined) { row(w.then, data.waits[wait].where); row(w.on, data.waits[wait].on); }
    for (const i of p.out.slice(0, 30)) {
      const a = data.arrows[i];
      if (a.kind === 1) arrowRow(row, w.sends, i, "to");
      else if (a.to.step >= 0) row(w.wakes, stepLink(a.to.step));
    }
  } else if (s.wait !== undefined) {
    const q = data.waits[s.wait];
    title = `${w.wait}, ${taskName(q.track)}`;
    row(w.on, q.on);
    row(w.then, q.where);
    row(w.at, duration(q.begin));
    row(w.until, q.end < 0 ? w.open : duration(q.end));
    row(w.takes, duration((q.end < 0 ? data.end : q.end) - q.begin));
  }
  if (s.track !== undefined) {
    const t = data.tracks[s.track];
    if (!title) title = `${w.task} ${taskName(s.track)}`;
    else row(w.task, link(taskName(s.track), { track: s.track }));
    row(w.coroutine, t.coroutine && el("code", {}, t.coroutine));
    if (t.maker) row(w.made, t.maker.step >= 0 ? stepLink(t.maker.step) : link(taskName(t.maker.track), { track: t.maker.track }));
    row(w.life, `${duration(t.begin)} – ${t.end < 0 ? w.open : duration(t.end)}`);
    row(w.ended, t.ended);
    row(w.steps, t.steps.length.toLocaleString());
  }
  out.replaceChildren(el("h2", {}, title), el("dl", {}, ...rows));
}

function arrowRow(row, name, i, other) {
  const a = data.arrows[i], p = a[other];
  row(name, [a.name, a.size ? w.bytes(a.size) : "", w.fate[a.fate]].filter(Boolean).join(", "), other === "to" ? " → " : " ← ", p.step >= 0 ? stepLink(p.step) : link(taskName(p.track), { track: p.track }));
}

// hover shows a line about what is under the pointer.
function hover(hit, e) {
  const tip = at("tip");
  let text = "";
  if (hit) {
    if (hit.mark !== undefined) text = `${w.kinds[markKinds[data.marks[hit.mark].kind]]}: ${data.marks[hit.mark].text}`;
    else if (hit.step >= 0) {
      const s = data.steps[hit.step];
      text = `${stepName(hit.step)}, ${duration(s.begin)}${stepTakes(hit.step) > 0 ? `, ${w.takes} ${duration(stepTakes(hit.step))}` : ""}${s.from ? `\n${s.from}` : ""}`;
    } else if (hit.wait !== undefined) text = `${taskName(data.waits[hit.wait].track)}: ${data.waits[hit.wait].where || w.wait}${data.waits[hit.wait].on ? `\n${w.on} ${data.waits[hit.wait].on}` : ""}`;
    else if (hit.track !== undefined) text = taskName(hit.track);
  }
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text.length > 400 ? text.slice(0, 400) + "…" : text;
  const box = at("lanes").getBoundingClientRect();
  tip.style.left = `${Math.min(e.offsetX + 14, box.width - tip.offsetWidth - 4)}px`;
  tip.style.top = `${Math.min(e.offsetY + 16, box.height - tip.offsetHeight - 4)}px`;
}

const mostListed = 200;

// most returns the n largest by a number, largest first.
function most(count, n, number) {
  const all = Array.from({ length: count }, (_, i) => i).filter(i => number(i) > 0);
  return all.sort((a, b) => number(b) - number(a) || a - b).slice(0, n);
}

const lists = {
  marks: () => data.marks.map((m, i) => i).filter(i => data.marks[i].kind > 0 || data.marks.length < 100).slice(0, mostListed).map(i => {
    const m = data.marks[i], kind = markKinds[m.kind];
    return [kind, `${w.kinds[kind]}: ${m.text}`, duration(m.point.at), { process: m.process, ...input.of(i), mark: i }];
  }),
  longest: () => most(data.steps.length, 50, stepTakes).map(i => ["", `${taskName(data.steps[i].track)}${data.steps[i].from ? `, ${data.steps[i].from}` : ""}`, duration(stepTakes(i)), { track: data.steps[i].track, step: i }]),
  waits: () => most(data.waits.length, 50, i => (data.waits[i].end < 0 ? data.end : data.waits[i].end) - data.waits[i].begin).map(i => {
    const q = data.waits[i];
    return ["", `${taskName(q.track)}${q.where ? `, ${q.where}` : ""}`, duration((q.end < 0 ? data.end : q.end) - q.begin), { track: q.track, wait: i }];
  }),
  results: () => results.slice(0, mostListed).map(t => ["", taskName(t), `${data.tracks[t].steps.length}`, { track: t }]),
};

function drawList() {
  for (const b of document.querySelectorAll("#tabs button")) b.setAttribute("aria-selected", b.dataset.list === list);
  const rows = lists[list]();
  at("list").replaceChildren(...rows.length ? rows.map(([kind, text, number, s]) => el("li", { class: kind }, link(text.length > 300 ? text.slice(0, 300) + "…" : text, s), el("span", { class: "n" }, number))) : [el("li", { class: "dim" }, list === "results" ? w.nothing : w.noMarks)]);
}

// find looks for text in names, coroutines, places, and what tasks wait for.
function find() {
  const q = at("search").value.trim().toLowerCase();
  const has = s => s.toLowerCase().includes(q);
  if (!q) { view.found = null; results = []; if (list === "results") list = "marks"; at("count").textContent = ""; } else {
    results = data.tracks.filter(t => has(taskName(t.index)) || has(t.coroutine) || t.waits.some(i => has(data.waits[i].where) || has(data.waits[i].on)) || t.steps.some(i => has(data.steps[i].from) || has(data.steps[i].name))).map(t => t.index);
    view.found = new Set(results);
    at("count").textContent = results.length ? w.found(results.length, data.tracks.length) : w.nothing;
    list = "results";
  }
  drawList();
  view.changed();
}

// say puts the words of the language everywhere.
function say() {
  w = words[lang];
  document.documentElement.lang = lang === "zh" ? "zh-CN" : "en";
  for (const e of document.querySelectorAll("[data-word]")) e.textContent = w[e.dataset.word];
  at("lang").textContent = w.other;
  at("search").placeholder = w.search;
  at("search").setAttribute("aria-label", w.search);
  at("lanes").setAttribute("aria-label", `${w.canvas}. ${w.facts(data.processes.length, data.tracks.filter(t => t.kind === 0).length, data.steps.length, duration(data.end))}`);
  at("in").setAttribute("aria-label", w.in);
  at("out").setAttribute("aria-label", w.out);
  at("title").textContent = data.title || w.untitled;
  at("facts").textContent = w.facts(data.processes.length, data.tracks.filter(t => t.kind === 0).length.toLocaleString(), data.steps.length.toLocaleString(), duration(data.end)) +
    (data.simulated ? `, ${w.simulated}` : "") + (data.start !== null ? `, ${new Date(data.start).toLocaleString(lang)}` : "");
  at("text").textContent = data.text;
  at("why").hidden = !data.text;
  at("empty").hidden = data.tracks.length > 0;
  at("keys").replaceChildren(...w.keys.flatMap(([k, what]) => [el("dt", {}, ...k.split(" ").flatMap(key => [el("kbd", {}, key), " "])), el("dd", {}, what)]));
  at("legend").replaceChildren(...Object.entries(w.legend).filter(([k]) => data.simulated || k === "run" || k === "wait" || k === "ready").map(([k, text]) => el("span", {}, el("i", { class: k }), text)));
  at("longest-tab").hidden = !data.steps.some((s, i) => stepTakes(i) > 0);
  details();
  drawList();
  view.changed();
}

at("lang").onclick = () => { lang = lang === "zh" ? "en" : "zh"; stored.set("asyncio-lang", lang); say(); };
at("in").onclick = () => view.zoomBy(2);
at("out").onclick = () => view.zoomBy(0.5);
at("fit").onclick = () => view.fit();
at("order").onclick = () => axis(false);
at("time").onclick = () => axis(true);
at("keys-button").onclick = () => at("help").showModal();
at("search").oninput = find;
at("search").onkeydown = e => {
  if (e.key === "Enter" && results.length) {
    const i = results.indexOf(view.selected ? view.selected.track : -1), n = results.length;
    select({ track: results[(i + (e.shiftKey ? n - 1 : 1) + (i < 0 && e.shiftKey ? 1 : 0)) % n] });
  } else if (e.key === "Escape") { at("search").value = ""; find(); at("lanes").focus(); }
};
document.addEventListener("keydown", e => { if (e.target === document.body) input.key(e); });
for (const b of document.querySelectorAll("#tabs button")) b.onclick = () => { list = b.dataset.list; drawList(); };
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view.colours());
if (!data.marks.some(m => m.kind > 0) && data.steps.some((s, i) => stepTakes(i) > 0)) list = "longest";
axis(view.axis.byTime);
say();
view.draw();
window.timeline = { data, view, select };

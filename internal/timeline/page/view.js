"use strict";
// Drawing a TimelineData on a canvas: lanes by task, what is in view and nothing else. Words and
// colours come from outside; what is selected goes there.

const rowHeight = 22, rulerHeight = 24, overviewHeight = 26, top0 = rulerHeight + overviewHeight;
const fewSteps = 400; // in view: then the wakes are drawn
const markShapes = { note: "●", cancel: "✕", panic: "!", deviation: "◆", fault: "⚡", stall: "◷", failure: "✖" };

class TimelineView {
  constructor(canvas, data, { select = () => {}, hover = () => {}, laneName = (_, i) => data.tracks[i].name } = {}) {
    Object.assign(this, { canvas, data, select, hover, laneName });
    this.closed = new Set();      // processes whose lanes are folded
    this.found = null;            // a Set of tracks that were searched for
    this.selected = null;         // {track, step, wait, mark, process}
    this.top = 0;                 // how far the lanes are scrolled
    this.drawn = { steps: 0, arrows: 0, lanes: 0, marks: 0 };
    this.setAxis(!data.simulated);
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.colours();
    this.resize();
  }

  setAxis(byTime) {
    const middle = this.axis ? this.axis.time(this.from + this.width() / 2) : null;
    this.axis = byTime ? new TimeAxis(this.data) : new OrderAxis(this.data);
    this.spans = new Spans(this.data, this.axis);
    const zoom = this.zoom || 1;
    this.fit();
    if (middle !== null && zoom > 1.5) this.zoomTo(this.axis.place(middle), zoom);
  }

  // width is how much of the axis is in view.
  width() { return this.axis.extent() / this.zoom; }
  fit() { this.zoom = 1; this.from = 0; this.changed(); }
  zoomTo(middle, zoom) {
    this.zoom = Math.min(Math.max(zoom, 1), this.mostZoom());
    this.from = middle - this.width() / 2;
    this.changed();
  }
  mostZoom() { return Math.max(1, this.axis.byTime ? this.axis.extent() / 10 : this.axis.extent() / 3); }
  zoomBy(factor, at = 0.5) {
    const fixed = this.from + this.width() * at;
    this.zoom = Math.min(Math.max(this.zoom * factor, 1), this.mostZoom());
    this.from = fixed - this.width() * at;
    this.changed();
  }
  pan(share) { this.from += this.width() * share; this.changed(); }
  scroll(pixels) { this.top += pixels; this.changed(); }
  // follow shows the end, for a program that is still running.
  follow() { this.from = this.axis.extent() - this.width(); this.changed(); }

  changed() {
    this.from = Math.min(Math.max(this.from, 0), Math.max(0, this.axis.extent() - this.width()));
    this.top = Math.min(Math.max(this.top, 0), Math.max(0, this.rows().length * rowHeight - this.lanesHeight()));
    if (!this.frame) this.frame = requestAnimationFrame(() => { this.frame = 0; this.draw(); });
  }
  lanesHeight() { return (this.h || 0) - top0; }

  // rows lists what has a lane: {process}, {counter} or {track}.
  rows() {
    const { data } = this, key = [data.tracks.length, data.processes.length, data.counters.length, ...this.closed].join();
    if (this.rowsFor === key) return this.allRows;
    const rows = [];
    data.counters.forEach((c, i) => { if (c.process < 0) rows.push({ counter: i }); });
    data.processes.forEach((p, i) => {
      rows.push({ process: i });
      if (this.closed.has(i)) return;
      for (const c of p.counters) rows.push({ counter: c });
      for (const t of p.tracks) rows.push({ track: t });
    });
    this.rowsFor = key;
    this.allRows = rows;
    this.rowOfTrack = new Map();
    this.rowOfProcess = new Map();
    rows.forEach((r, i) => {
      if (r.track !== undefined) this.rowOfTrack.set(r.track, i);
      if (r.process !== undefined) this.rowOfProcess.set(r.process, i);
    });
    return rows;
  }
  rowOf(track) {
    this.rows();
    return this.rowOfTrack.get(track) ?? this.rowOfProcess.get(this.data.tracks[track].process);
  }

  resize() {
    const box = this.canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    this.w = Math.max(200, box.width);
    this.h = Math.max(100, box.height);
    this.canvas.width = Math.round(this.w * ratio);
    this.canvas.height = Math.round(this.h * ratio);
    this.ratio = ratio;
    this.left = Math.min(220, Math.max(96, this.w * 0.22));
    this.changed();
  }

  colours() {
    const style = getComputedStyle(this.canvas), of = name => style.getPropertyValue("--" + name).trim();
    this.c = {};
    for (const n of ["ink", "dim", "line", "paper", "band", "wait", "ready", "wake", "message", "bad", "held", "deviation", "hit", "life", "head"]) this.c[n] = of(n);
    this.c.steps = of("steps").split(/\s+/);
    this.changed();
  }

  x(position) { return this.left + (position - this.from) / this.width() * (this.w - this.left); }
  position(x) { return this.from + (x - this.left) / (this.w - this.left) * this.width(); }
  y(row) { return top0 + row * rowHeight - this.top; }

  draw() {
    const g = this.g = this.canvas.getContext("2d"), { c } = this;
    g.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    g.fillStyle = c.paper;
    g.fillRect(0, 0, this.w, this.h);
    g.font = "12px system-ui, sans-serif";
    g.textBaseline = "middle";
    this.drawn = { steps: 0, arrows: 0, lanes: 0, marks: 0 };
    this.seen = []; // steps in view, as far as they are few
    const rows = this.rows(), first = Math.floor(this.top / rowHeight), last = Math.min(rows.length, Math.ceil((this.top + this.lanesHeight()) / rowHeight));
    g.save();
    this.clip(this.left, top0, this.w - this.left, this.lanesHeight());
    this.drawBands();
    for (let i = first; i < last; i++) this.drawLane(rows[i], this.y(i));
    this.drawArrows(first, last);
    for (let i = first; i < last; i++) this.drawMarks(rows[i], this.y(i));
    g.restore();
    g.save();
    this.clip(0, top0, this.w, this.lanesHeight());
    for (let i = first; i < last; i++) this.drawLabel(rows[i], this.y(i));
    g.restore();
    this.drawRuler();
    this.drawOverview();
    this.drawScrollbar(rows.length);
    this.canvas.dataset.drawn = JSON.stringify(this.drawn);
  }

  clip(x, y, w, h) { this.g.beginPath(); this.g.rect(x, y, w, h); this.g.clip(); }

  // drawBands shades where the clock jumps, and rules the deviations.
  drawBands() {
    const { g, c, axis, data } = this, bottom = this.h;
    const width = (this.w - this.left) / this.width();
    if (!axis.byTime && data.simulated && width > 3) {
      g.strokeStyle = c.band;
      g.setLineDash([3, 4]);
      for (let i = this.firstInView(); i < data.steps.length && data.steps[i].slot - 1 <= this.from + this.width(); i++) {
        if (!data.steps[i].jump) continue;
        const x = this.x(data.steps[i].slot - 0.5);
        g.beginPath(); g.moveTo(x, top0); g.lineTo(x, bottom); g.stroke();
      }
      g.setLineDash([]);
    }
    for (const m of data.marks) {
      const kind = markKinds[m.kind];
      if (kind === "note" || kind === "cancel" && m.process >= 0) continue;
      const x = this.x(this.spans.point(m.point));
      if (x < this.left || x > this.w) continue;
      g.strokeStyle = kind === "deviation" || kind === "fault" ? c.deviation : c.bad;
      g.globalAlpha = 0.45;
      g.setLineDash([2, 3]);
      g.beginPath(); g.moveTo(x, top0); g.lineTo(x, bottom); g.stroke();
      g.setLineDash([]);
      g.globalAlpha = 1;
    }
  }
  firstInView() {
    const s = this.data.stepBefore(this.axis.time(this.from));
    return Math.max(0, s - 1);
  }

  drawLane(row, y) {
    const { g, c } = this;
    this.drawn.lanes++;
    if (row.process !== undefined) {
      g.fillStyle = c.head;
      g.fillRect(this.left, y, this.w, rowHeight);
    } else if (row.counter !== undefined) this.drawCounter(this.data.counters[row.counter], y);
    else this.drawTrack(row.track, y);
    g.fillStyle = c.line;
    g.fillRect(this.left, y + rowHeight - 0.5, this.w, 0.5);
  }

  drawTrack(index, y) {
    const { g, c, data, spans, axis } = this, t = data.tracks[index];
    const right = this.from + this.width(), middle = y + rowHeight / 2;
    if (this.selected && this.selected.track === index) { g.fillStyle = c.hit; g.fillRect(this.left, y, this.w, rowHeight - 0.5); }
    if (this.found) g.globalAlpha = this.found.has(index) ? 1 : 0.25;
    if (t.kind === 0 || t.kind === 3) {
      const [from, to] = spans.life(t);
      if (to >= this.from && from <= right) this.bar(from, to, middle - 1.5, 3, c.ready);
      this.dense(t.waits, i => spans.wait(data.waits[i]), (from, to) => this.bar(from, to, middle - 2, 4, c.wait));
    } else if (t.kind === 2) this.bar(this.from, right, middle - 0.5, 1, c.line);
    const colour = c.steps[t.process % c.steps.length];
    this.drawn.steps += this.dense(t.steps, i => [axis.begin(i), axis.end(i)], (from, to, i) => {
      this.bar(from, to, y + 4, rowHeight - 9, colour);
      if (this.seen.length < fewSteps) this.seen.push(i);
      if (this.selected && this.selected.step === i) {
        g.strokeStyle = c.ink;
        g.strokeRect(this.x(from) - 1, y + 3, Math.max(3, this.x(to) - this.x(from) + 2), rowHeight - 7);
      }
      if (this.x(to) - this.x(from) > 60) this.write(data.steps[i].name || data.steps[i].from, this.x(from) + 4, middle, this.x(to) - this.x(from) - 8, c.paper);
    });
    g.globalAlpha = 1;
  }

  // dense calls draw for the spans in view, but only once for all that fall into one pixel, and
  // returns how often it did. list is in order.
  dense(list, span, draw) {
    const right = this.from + this.width(), pixel = this.width() / (this.w - this.left);
    const after = position => { // the first that ends behind it
      let low = 0, high = list.length;
      while (low < high) {
        const mid = (low + high) >> 1;
        if (span(list[mid])[1] < position) low = mid + 1; else high = mid;
      }
      return low;
    };
    let n = 0;
    for (let i = after(this.from); i < list.length;) {
      const [from, to] = span(list[i]);
      if (from > right) break;
      draw(from, to, list[i]);
      n++;
      i++;
      if (i < list.length && span(list[i])[1] < to + pixel / 2) i = Math.max(i, after(to + pixel / 2));
    }
    return n;
  }

  bar(from, to, y, h, colour) {
    const x = Math.max(this.x(from), this.left - 2), end = Math.min(this.x(to), this.w + 2);
    this.g.fillStyle = colour;
    this.g.fillRect(x, y, Math.max(end - x - (end - x > 6 ? 1 : 0), 1.5), h);
  }

  write(text, x, y, width, colour) {
    const { g } = this;
    if (!text || width < 12) return;
    g.fillStyle = colour;
    let s = text.length > 200 ? text.slice(0, 200) : text;
    if (g.measureText(s).width > width) {
      let low = 0, high = s.length;
      while (low < high) {
        const mid = (low + high + 1) >> 1;
        if (g.measureText(s.slice(0, mid) + "…").width <= width) low = mid; else high = mid - 1;
      }
      s = s.slice(0, low) + "…";
    }
    g.fillText(s, x, y);
  }

  drawCounter(counter, y) {
    const { g, c, axis } = this, s = counter.samples, most = counter.most || 1;
    if (!s.length) return;
    const place = q => !axis.byTime && q.step >= 0 ? axis.begin(q.step) : axis.place(q.at);
    g.fillStyle = c.steps[(counter.process + 1) % c.steps.length];
    g.globalAlpha = 0.5;
    let low = 0, high = s.length;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (place(s[mid]) < this.from) low = mid + 1; else high = mid;
    }
    let lastX = -1;
    for (let i = Math.max(0, low - 1); i < s.length; i++) {
      const from = this.x(place(s[i])), to = i + 1 < s.length ? this.x(place(s[i + 1])) : this.w;
      if (from > this.w) break;
      if (to <= lastX + 0.5) continue; // the highest of a pixel would be better, and slower
      const height = (rowHeight - 5) * s[i].value / most;
      g.fillRect(Math.max(from, this.left), y + rowHeight - 2 - height, Math.max(0.5, to - Math.max(from, this.left)), height);
      lastX = to;
    }
    g.globalAlpha = 1;
  }

  // drawArrows draws the messages in view, the wakes too where they are few, and those of the
  // selected step in any case.
  drawArrows(first, last) {
    const { data, selected, seen } = this, right = this.from + this.width(), most = 4000;
    const step = selected && selected.step >= 0 ? data.steps[selected.step] : null;
    const all = new Set(step ? [...step.in, ...step.out] : []);
    if (seen.length < fewSteps) for (const i of seen) for (const list of [data.steps[i].in, data.steps[i].out]) for (const a of list) all.add(a);
    for (const i of data.messages) all.add(i);
    for (const i of all) {
      if (this.drawn.arrows >= most) break;
      const a = data.arrows[i], chosen = step !== null && (a.from.step === step.index || a.to.step === step.index);
      const from = this.spans.point(a.from), to = a.to.at < 0 && a.to.step < 0 ? from + this.width() / 40 : this.spans.point(a.to);
      if (Math.max(from, to) < this.from || Math.min(from, to) > right) continue;
      const r1 = this.rowOf(a.from.track), r2 = this.rowOf(a.to.track);
      if (Math.max(r1, r2) < first || Math.min(r1, r2) >= last || a.kind === 0 && r1 === r2) continue;
      this.drawn.arrows++;
      this.arrow(this.x(from), this.y(r1) + rowHeight / 2, this.x(to), this.y(r2) + rowHeight / 2, a, chosen);
    }
  }

  arrow(x1, y1, x2, y2, a, chosen) {
    const { g, c } = this, lost = a.kind === 1 && a.fate === 1;
    const colour = a.kind === 0 ? c.wake : [c.message, c.bad, c.held][a.fate];
    g.strokeStyle = g.fillStyle = colour;
    g.lineWidth = chosen ? 2 : a.kind === 1 ? 1.3 : 0.8;
    g.globalAlpha = chosen ? 1 : a.kind === 1 ? 0.9 : 0.5;
    if (a.kind === 1 && a.fate) g.setLineDash([4, 3]);
    if (lost) { x2 = x1 + (x2 - x1) * 0.6; y2 = y1 + (y2 - y1) * 0.6; }
    g.beginPath();
    g.moveTo(x1, y1);
    const bend = Math.min(30, Math.abs(x2 - x1) / 2);
    g.bezierCurveTo(x1 + bend, y1, x2 - bend, y2, x2, y2);
    g.stroke();
    g.setLineDash([]);
    if (lost) {
      g.beginPath(); g.moveTo(x2 - 4, y2 - 4); g.lineTo(x2 + 4, y2 + 4); g.moveTo(x2 + 4, y2 - 4); g.lineTo(x2 - 4, y2 + 4); g.stroke();
    } else {
      const down = y2 > y1 ? 1 : -1, flat = bend > 4 ? 0 : 1;
      g.beginPath();
      g.moveTo(x2, y2);
      if (flat) { g.lineTo(x2 - 3, y2 - 6 * down); g.lineTo(x2 + 3, y2 - 6 * down); } else { g.lineTo(x2 - 6, y2 - 3); g.lineTo(x2 - 6, y2 + 3); }
      g.fill();
    }
    g.lineWidth = 1;
    g.globalAlpha = 1;
  }

  marksOf(row) {
    if (row.track !== undefined) return this.data.tracks[row.track].marks;
    if (row.process === undefined) return [];
    const p = this.data.processes[row.process];
    return this.closed.has(row.process) ? [...p.marks, ...p.tracks.flatMap(t => this.data.tracks[t].marks)] : p.marks;
  }
  markColour(kind) {
    const { c } = this;
    return { note: c.dim, cancel: c.held, deviation: c.deviation, fault: c.deviation }[kind] || c.bad;
  }

  drawMarks(row, y) {
    const { g } = this;
    g.textAlign = "center";
    for (const i of this.marksOf(row)) {
      const m = this.data.marks[i], x = this.x(this.spans.point(m.point));
      if (x < this.left - 8 || x > this.w + 8) continue;
      this.drawn.marks++;
      const kind = markKinds[m.kind];
      g.fillStyle = this.c.paper;
      g.beginPath(); g.arc(x, y + rowHeight / 2, 7, 0, 7); g.fill();
      g.strokeStyle = g.fillStyle = this.markColour(kind);
      g.beginPath(); g.arc(x, y + rowHeight / 2, 7, 0, 7); g.stroke();
      g.font = "bold 9px system-ui, sans-serif";
      g.fillText(markShapes[kind], x, y + rowHeight / 2 + 0.5);
      g.font = "12px system-ui, sans-serif";
    }
    g.textAlign = "left";
  }

  drawLabel(row, y) {
    const { g, c, data } = this, middle = y + rowHeight / 2, width = this.left - 10;
    g.fillStyle = row.process !== undefined ? c.head : c.paper;
    g.fillRect(0, y, this.left, rowHeight);
    if (row.process !== undefined) {
      g.font = "600 12px system-ui, sans-serif";
      const p = data.processes[row.process];
      this.write(`${this.closed.has(row.process) ? "▸" : "▾"} ${data.processName(row.process)}${p.ended ? ` (${p.ended})` : ""}`, 6, middle, width, c.ink);
      g.font = "12px system-ui, sans-serif";
    } else if (row.counter !== undefined) {
      this.write(`${data.counters[row.counter].name} ≤ ${data.counters[row.counter].unit === "ns" ? duration(data.counters[row.counter].most) : data.counters[row.counter].most}`, 18, middle, width - 12, c.dim);
    } else {
      if (this.found) g.globalAlpha = this.found.has(row.track) ? 1 : 0.4;
      if (this.selected && this.selected.track === row.track) { g.fillStyle = c.hit; g.fillRect(0, y, this.left, rowHeight); }
      this.write(this.laneName(data, row.track), 18, middle, width - 12, c.ink);
      g.globalAlpha = 1;
    }
    g.fillStyle = c.line;
    g.fillRect(0, y + rowHeight - 0.5, this.left, 0.5);
    g.fillRect(this.left - 0.5, y, 0.5, rowHeight);
  }

  drawRuler() {
    const { g, c, axis, data } = this, y = overviewHeight;
    g.fillStyle = c.paper;
    g.fillRect(0, y, this.w, rulerHeight);
    g.fillStyle = c.line;
    g.fillRect(0, y + rulerHeight - 0.5, this.w, 0.5);
    g.fillStyle = c.dim;
    const about = (this.w - this.left) / 110;
    let last = "";
    for (const at of ticks(this.from, this.from + this.width(), about)) {
      const x = this.x(at);
      if (x < this.left) continue;
      const time = duration(axis.time(axis.byTime ? at : at + 0.01), 6);
      let text = time;
      if (!axis.byTime) {
        const step = data.steps[this.stepAt(at)];
        text = (step ? `${step.index + 1}` : "") + (time !== last ? ` · ${time}` : "");
        last = time;
      }
      g.fillRect(x, y + rulerHeight - 6, 0.7, 6);
      g.fillText(text, x + 3, y + rulerHeight / 2);
    }
  }
  // stepAt returns the index of the last step that begins before a position of the order.
  stepAt(slot) {
    const { steps } = this.data;
    let low = 0, high = steps.length;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (steps[mid].slot <= slot) low = mid + 1; else high = mid;
    }
    return low - 1;
  }

  // drawOverview draws how many steps there are over the whole, once for each width, and the window.
  drawOverview() {
    const { g, c, data, axis } = this, width = Math.max(1, Math.floor(this.w - this.left));
    const key = [width, data.steps.length, axis.byTime, c.wait, data.marks.length].join();
    if (this.overviewFor !== key) {
      this.overviewFor = key;
      const columns = new Float64Array(width), extent = axis.extent();
      for (let i = 0; i < data.steps.length; i++) columns[Math.min(width - 1, Math.floor(axis.begin(i) / extent * width))]++;
      this.columns = columns;
      this.most = columns.reduce((a, b) => Math.max(a, b), 1);
    }
    g.fillStyle = c.head;
    g.fillRect(0, 0, this.w, overviewHeight);
    g.fillStyle = c.wait;
    this.columns.forEach((n, i) => { if (n) { const h = 3 + (overviewHeight - 6) * n / this.most; g.fillRect(this.left + i, overviewHeight - h, 1, h); } });
    for (const m of data.marks) {
      if (markKinds[m.kind] === "note") continue;
      g.fillStyle = this.markColour(markKinds[m.kind]);
      g.fillRect(this.left + this.spans.point(m.point) / axis.extent() * width - 1, 0, 2, 7);
    }
    const x = this.left + this.from / axis.extent() * width, w = Math.max(4, this.width() / axis.extent() * width);
    g.strokeStyle = c.ink;
    g.strokeRect(x + 0.5, 0.5, w - 1, overviewHeight - 1);
  }

  drawScrollbar(rows) {
    const all = rows * rowHeight, seen = this.lanesHeight();
    if (all <= seen) return;
    this.g.fillStyle = this.c.dim;
    this.g.globalAlpha = 0.5;
    this.g.fillRect(this.w - 5, top0 + this.top / all * seen, 4, Math.max(16, seen / all * seen));
    this.g.globalAlpha = 1;
  }
}

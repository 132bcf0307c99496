"use strict";
// Where things are from left to right: by time, or by order, where each step has one place, and a
// jump of a simulation's clock has one too. Positions are numbers; the view makes pixels of them.

class OrderAxis {
  constructor(data) { this.data = data; this.byTime = false; }
  extent() { return Math.max(2, this.data.slots + 1); }
  begin(step) { return this.data.steps[step].slot; }
  end(step) { return this.data.steps[step].slot + 1; }
  // place returns where a time is: before the steps that begin then.
  place(at) {
    const i = this.data.stepBefore(at), s = this.data.steps[i];
    if (!s) return this.data.slots + (this.data.steps.length && at > this.data.steps.at(-1).begin ? 0.5 : 0);
    if (!s.jump || s.begin === at) return s.slot;
    const before = i > 0 ? this.data.steps[i - 1].begin : 0;
    return s.slot - 1 + (at - before) / (s.begin - before);
  }
  // time returns the time at a position.
  time(position) {
    const steps = this.data.steps;
    let low = 0, high = steps.length;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (steps[mid].slot <= position) low = mid + 1; else high = mid;
    }
    const before = low > 0 ? steps[low - 1].begin : 0, next = steps[low];
    if (!next || !next.jump) return before;
    return before + Math.max(0, position - (next.slot - 1)) * (next.begin - before);
  }
}

class TimeAxis {
  constructor(data) { this.data = data; this.byTime = true; }
  extent() { return Math.max(1, this.data.end * 1.01); }
  begin(step) { return this.data.steps[step].begin; }
  end(step) {
    const s = this.data.steps[step];
    return s.end < 0 ? this.data.end : s.end;
  }
  place(at) { return at; }
  time(position) { return position; }
}

// Spans on a track, on either axis.
class Spans {
  constructor(data, axis) { this.data = data; this.axis = axis; }

  point(p) {
    if (p.step >= 0) return this.axis.byTime ? Math.max(p.at, this.axis.begin(p.step)) : this.axis.begin(p.step) + 0.5;
    return p.at < 0 ? this.axis.extent() : this.axis.place(p.at);
  }

  life(t) {
    const { axis } = this, first = t.steps[0], last = t.steps.at(-1);
    let begin = t.maker && t.maker.step >= 0 ? this.point({ ...t.maker, at: t.begin }) : axis.place(t.begin);
    let end = t.end < 0 ? axis.extent() : axis.place(t.end);
    if (first !== undefined) { begin = Math.min(begin, axis.begin(first)); end = Math.max(end, axis.end(last)); }
    return [begin, Math.max(begin, end)];
  }

  wait(w) {
    const { axis, data } = this;
    const begin = w.after >= 0 ? axis.end(w.after) : axis.place(w.begin);
    if (w.end < 0) return [begin, axis.extent()];
    let end = axis.place(w.end);
    if (!axis.byTime) {
      const of = data.tracks[w.track].steps;
      let low = 0, high = of.length;
      while (low < high) {
        const mid = (low + high) >> 1;
        if (of[mid] <= w.after) low = mid + 1; else high = mid;
      }
      const next = of[low];
      if (next !== undefined) {
        const by = data.steps[next].woken;
        end = by >= 0 ? axis.begin(by) + 0.5 : Math.min(end, axis.begin(next));
      }
    }
    return [begin, Math.max(begin, end)];
  }
}

// ticks returns round positions between two, about so many, with the width between them.
function ticks(from, to, about) {
  const rough = (to - from) / Math.max(1, about), power = 10 ** Math.floor(Math.log10(rough));
  const each = Math.max([1, 2, 5, 10].find(n => n * power >= rough) * power, 1);
  const all = [];
  for (let at = Math.ceil(from / each) * each; at <= to; at += each) all.push(at);
  return all;
}

// duration shows a time in nanoseconds: exactly, in the largest unit in which it is at least one.
function duration(ns, digits = 9) {
  if (ns < 0) return "–";
  for (const [unit, size] of [["s", 1e9], ["ms", 1e6], ["µs", 1e3]]) {
    if (ns >= size) return `${+(ns / size).toPrecision(digits)} ${unit}`;
  }
  return ns === 0 ? "0" : `${Math.round(ns)} ns`;
}

"use strict";
// What happened, as the page has it: filled event by event, so that a program that runs in the page
// can show itself while it runs. It knows nothing of drawing. The model is that of timeline.go.

const none = -1; // index of nothing, and the end of what is not over

class TimelineData {
  constructor({ title = "", text = "", start = null, simulated = false } = {}) {
    Object.assign(this, { title, text, start, simulated });
    this.processes = []; this.tracks = []; this.steps = []; this.waits = [];
    this.arrows = []; this.marks = []; this.counters = [];
    this.messages = []; // the arrows that are messages
    this.end = 0;   // the last time
    this.slots = 0; // the order has so many places
  }

  // past notes a time.
  past(...times) { for (const t of times) if (t > this.end) this.end = t; }

  addProcess({ name, begin = 0, end = none, ended = "" }) {
    const life = 1 + this.processes.filter(p => p.name === name).length;
    this.past(begin, end);
    return this.processes.push({ name, begin, end, ended, life, tracks: [], counters: [], marks: [] }) - 1;
  }

  addTrack({ process, kind = 0, name, coroutine = "", maker = null, begin = 0, end = none, ended = "" }) {
    this.past(begin, end);
    const index = this.tracks.push({ index: this.tracks.length, process, kind, name, coroutine, maker, begin, end, ended, steps: [], waits: [], marks: [] }) - 1;
    this.processes[process].tracks.push(index);
    return index;
  }

  // addStep adds a step behind all others. In a simulation there is an empty place in the order
  // where the clock jumps.
  addStep({ track, begin, end = none, name = "", from = "" }) {
    const last = this.steps.at(-1);
    const jump = this.simulated && begin > (last ? last.begin : 0);
    const slot = this.slots + (jump ? 1 : 0);
    this.slots = slot + 1;
    this.past(begin, end);
    const index = this.steps.push({ index: this.steps.length, track, begin, end, name, from, slot, jump, woken: none, out: [], in: [] }) - 1;
    this.tracks[track].steps.push(index);
    return index;
  }

  addWait({ track, after = none, begin, end = none, on = "", where = "" }) {
    this.past(begin, end);
    const index = this.waits.push({ track, after, begin, end, on, where }) - 1;
    this.tracks[track].waits.push(index);
    return index;
  }

  // addArrow adds an arrow between points, which are {track, step, at}.
  addArrow({ kind = 0, from, to, name = "", size = 0, fate = 0 }) {
    this.past(from.at, to.at);
    const index = this.arrows.push({ kind, from, to, name, size, fate }) - 1;
    if (kind === 1) this.messages.push(index);
    if (from.step >= 0) this.steps[from.step].out.push(index);
    if (to.step >= 0) {
      this.steps[to.step].in.push(index);
      if (kind === 0) this.steps[to.step].woken = from.step;
    }
    return index;
  }

  addMark({ kind = 0, process = none, point, by = null, text = "" }) {
    this.past(point.at);
    const index = this.marks.push({ kind, process, point, by, text }) - 1;
    if (point.track >= 0) this.tracks[point.track].marks.push(index);
    else if (process >= 0) this.processes[process].marks.push(index);
    return index;
  }

  addCounter({ process = none, name, unit = "" }) {
    const index = this.counters.push({ process, name, unit, samples: [], most: 0 }) - 1;
    if (process >= 0) this.processes[process].counters.push(index);
    return index;
  }

  addSample(counter, at, value, step = none) {
    this.past(at);
    const c = this.counters[counter];
    c.samples.push({ at, value, step });
    c.most = Math.max(c.most, value);
  }

  // stepBefore returns how many steps begin before a time.
  stepBefore(at) {
    let low = 0, high = this.steps.length;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (this.steps[mid].begin < at) low = mid + 1; else high = mid;
    }
    return low;
  }

  // lastStep returns the last step of a track that is not behind another one, or none.
  lastStep(track, step) {
    const of = this.tracks[track].steps;
    let low = 0, high = of.length;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (of[mid] <= step) low = mid + 1; else high = mid;
    }
    return low > 0 ? of[low - 1] : none;
  }

  processName(i) {
    const p = this.processes[i];
    return p.life > 1 ? `${p.name} #${p.life}` : p.name;
  }

  taskName(track) {
    const t = this.tracks[track];
    return this.processes.length > 1 ? `${this.processName(t.process)}/${t.name}` : t.name;
  }

  // load reads what the Go package writes: each part by columns, texts by their numbers.
  static load(json) {
    const data = new TimelineData(json), text = json.texts;
    const rows = (part, add) => {
      const names = Object.keys(part), count = names.length ? part[names[0]].length : 0;
      for (let i = 0; i < count; i++) add(n => part[n][i]);
    };
    const point = (at, prefix) => ({ track: at(prefix + "track"), step: at(prefix + "step"), at: at(prefix + "at") });
    rows(json.processes, at => data.addProcess({ name: text[at("name")], begin: at("begin"), end: at("end"), ended: text[at("ended")] }));
    rows(json.tracks, at => data.addTrack({ process: at("process"), kind: at("kind"), name: text[at("name")], coroutine: text[at("coroutine")],
      maker: at("maker_track") < 0 ? null : point(at, "maker_"), begin: at("begin"), end: at("end"), ended: text[at("ended")] }));
    let clock = 0;
    rows(json.steps, at => {
      const begin = clock += at("after"), takes = at("takes");
      data.addStep({ track: at("track"), begin, end: takes < 0 ? none : begin + takes, name: text[at("name")], from: text[at("from")] });
    });
    rows(json.waits, at => {
      const begin = at("begin"), takes = at("takes");
      data.addWait({ track: at("track"), after: at("step"), begin, end: takes < 0 ? none : begin + takes, on: text[at("on")], where: text[at("where")] });
    });
    rows(json.arrows, at => data.addArrow({ kind: at("kind"), from: point(at, "from_"), to: point(at, "to_"), name: text[at("name")], size: at("size"), fate: at("fate") }));
    rows(json.marks, at => data.addMark({ kind: at("kind"), process: at("process"), point: point(at, "at_"), by: at("by_track") < 0 ? null : point(at, "by_"), text: text[at("text")] }));
    for (const c of json.counters) {
      const i = data.addCounter({ process: c.process, name: text[c.name], unit: text[c.unit] });
      c.at.forEach((at, j) => data.addSample(i, at, c.value[j], c.step ? c.step[j] : none));
    }
    return data;
  }
}

// The kinds of marks, by their numbers.
const markKinds = ["note", "cancel", "panic", "deviation", "fault", "stall", "failure"];

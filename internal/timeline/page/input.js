"use strict";
// Pointer, wheel and keys over a TimelineView.

class TimelineInput {
  constructor(view, { help = () => {}, search = () => {}, axis = () => {} } = {}) {
    Object.assign(this, { view, help, search, axis });
    const { canvas } = view;
    this.pointers = new Map();
    canvas.addEventListener("wheel", e => this.wheel(e), { passive: false });
    canvas.addEventListener("pointerdown", e => this.down(e));
    canvas.addEventListener("pointermove", e => this.move(e));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, e => this.up(e, end));
    canvas.addEventListener("pointerleave", () => view.hover(null));
    canvas.addEventListener("dblclick", () => this.enter());
    canvas.addEventListener("keydown", e => this.key(e));
  }

  share(x) { return Math.min(1, Math.max(0, (x - this.view.left) / (this.view.w - this.view.left))); }

  wheel(e) {
    e.preventDefault();
    const { view } = this, unit = e.deltaMode === 1 ? 16 : 1, dx = e.deltaX * unit, dy = e.deltaY * unit;
    if (e.ctrlKey || e.metaKey || e.offsetY < top0) view.zoomBy(Math.exp(-dy * 0.0025), this.share(e.offsetX));
    else if (e.shiftKey) view.pan((dx || dy) / (view.w - view.left));
    else {
      if (dx) view.pan(dx / (view.w - view.left));
      if (dy) view.scroll(dy);
    }
  }

  down(e) {
    const { view } = this;
    view.canvas.focus({ preventScroll: true });
    view.canvas.setPointerCapture(e.pointerId);
    this.pointers.set(e.pointerId, { x: e.offsetX, y: e.offsetY });
    this.moved = 0;
    this.inOverview = e.offsetY < overviewHeight;
    if (this.inOverview) this.jump(e.offsetX);
  }
  jump(x) {
    const { view } = this;
    view.from = this.share(x) * view.axis.extent() - view.width() / 2;
    view.changed();
  }

  move(e) {
    const { view, pointers } = this, before = pointers.get(e.pointerId);
    if (!before) { view.hover(this.hit(e.offsetX, e.offsetY), e); return; }
    const dx = e.offsetX - before.x, dy = e.offsetY - before.y;
    this.moved += Math.abs(dx) + Math.abs(dy);
    if (this.inOverview) this.jump(e.offsetX);
    else if (pointers.size === 2) {
      const [other] = [...pointers].filter(([id]) => id !== e.pointerId).map(([, p]) => p);
      const was = Math.abs(before.x - other.x), is = Math.abs(e.offsetX - other.x);
      if (was > 8 && is > 8) view.zoomBy(is / was, this.share((e.offsetX + other.x) / 2));
    } else {
      view.pan(-dx / (view.w - view.left));
      view.scroll(-dy);
    }
    pointers.set(e.pointerId, { x: e.offsetX, y: e.offsetY });
  }

  up(e, kind) {
    const { view } = this;
    if (this.pointers.delete(e.pointerId) && kind === "pointerup" && this.moved < 5 && !this.inOverview) {
      const hit = this.hit(e.offsetX, e.offsetY);
      if (hit && hit.process !== undefined && hit.mark === undefined) {
        if (!view.closed.delete(hit.process)) view.closed.add(hit.process);
        view.changed();
      } else view.select(hit);
    }
  }

  // hit returns what is at a place.
  hit(x, y) {
    const { view } = this, { data, spans, axis } = view;
    if (y < top0) return null;
    const row = view.rows()[Math.floor((y - top0 + view.top) / rowHeight)];
    if (!row) return null;
    if (x >= view.left) {
      for (const i of view.marksOf(row)) if (Math.abs(view.x(spans.point(data.marks[i].point)) - x) < 8) return { ...row, ...this.of(i), mark: i };
    }
    if (row.track === undefined || x < view.left) return row;
    const t = data.tracks[row.track], near = 4 / (view.w - view.left) * view.width(), at = view.position(x);
    const find = (list, span) => list.find(i => { const [from, to] = span(i); return at >= from && at <= to; }) ?? list.find(i => { const [from, to] = span(i); return at >= from - near && at <= to + near; });
    const step = find(t.steps, i => [axis.begin(i), axis.end(i)]);
    if (step !== undefined) return { track: row.track, step };
    const wait = find(t.waits, i => spans.wait(data.waits[i]));
    if (wait !== undefined) return { track: row.track, wait };
    return row;
  }
  of(mark) {
    const p = this.view.data.marks[mark].point;
    return { ...(p.track >= 0 && { track: p.track }), ...(p.step >= 0 && { step: p.step }) };
  }

  enter() {
    const { view } = this, s = view.selected;
    if (s && s.step >= 0) {
      const length = Math.max(view.axis.end(s.step) - view.axis.begin(s.step), view.axis.extent() / view.mostZoom() / 10);
      view.zoomTo((view.axis.begin(s.step) + view.axis.end(s.step)) / 2, view.axis.extent() / (length * (view.axis.byTime ? 4 : 24)));
    } else view.zoomBy(2);
  }

  key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const { view } = this, act = {
      "+": () => view.zoomBy(1.5), "=": () => view.zoomBy(1.5), w: () => view.zoomBy(1.5),
      "-": () => view.zoomBy(1 / 1.5), s: () => view.zoomBy(1 / 1.5),
      ArrowLeft: () => view.pan(-0.15), a: () => view.pan(-0.15), ArrowRight: () => view.pan(0.15), d: () => view.pan(0.15),
      ArrowUp: () => this.lane(-1), ArrowDown: () => this.lane(1),
      PageUp: () => view.scroll(-view.lanesHeight()), PageDown: () => view.scroll(view.lanesHeight()),
      Home: () => { view.from = 0; view.changed(); }, End: () => view.follow(),
      "[": () => this.step(-1), "]": () => this.step(1), ",": () => this.step(-1), ".": () => this.step(1),
      n: () => this.mark(1), N: () => this.mark(-1), p: () => this.mark(-1),
      "0": () => view.fit(), f: () => view.fit(), o: () => this.axis(), "/": () => this.search(), "?": () => this.help(),
      Enter: () => this.enter(), Escape: () => view.select(null),
    }[e.key];
    if (!act) return;
    e.preventDefault();
    act();
  }

  // lane selects the next or previous track.
  lane(by) {
    const { view } = this, rows = view.rows();
    let i = view.selected && view.selected.track !== undefined ? view.rowOf(view.selected.track) + by : by > 0 ? 0 : rows.length - 1;
    while (rows[i] && rows[i].track === undefined) i += by;
    if (rows[i]) view.select({ track: rows[i].track });
  }

  // step selects the next or previous step: of the selected track, or of all.
  step(by) {
    const { view } = this, { data } = view, s = view.selected;
    let next;
    if (s && s.track !== undefined && !(s.step >= 0)) next = data.tracks[s.track].steps.at(by > 0 ? 0 : -1);
    else next = s && s.step >= 0 ? s.step + by : by > 0 ? 0 : data.steps.length - 1;
    if (data.steps[next]) view.select({ track: data.steps[next].track, step: next });
  }

  // mark selects the next or previous mark that is more than a note.
  mark(by) {
    const { view } = this, { data } = view;
    const all = data.marks.map((m, i) => i).filter(i => markKinds[data.marks[i].kind] !== "note");
    if (!all.length) return;
    const at = all.indexOf(view.selected ? view.selected.mark : -1);
    const i = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : (at + by + all.length) % all.length];
    view.select({ ...this.of(i), mark: i });
  }
}

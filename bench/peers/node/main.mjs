// The rows of the comparison, as a program for Node. The lines it prints are those of
// internal/peer.
//
// Awaiting a promise that is resolved suspends into the microtasks, which let no timer or I/O in; what
// gives everything else its turn is setImmediate, as asyncio's sleep(0) does. Node has no queue,
// lock or task group of its own: the first two are the usual few lines with promises, and the
// last row is absent.
import { createServer } from "node:net";
import { setImmediate, setTimeout as sleep } from "node:timers/promises";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";
import * as http from "./http.mjs";

const GROUP = 1000;
const CONTENDERS = 100;

// A first-in-first-out list whose shift does not move the others.
class Fifo {
  #items = [];
  #head = 0;
  get length() {
    return this.#items.length - this.#head;
  }
  push(item) {
    this.#items.push(item);
  }
  shift() {
    const item = this.#items[this.#head];
    this.#items[this.#head++] = undefined;
    if (this.#head === this.#items.length) {
      this.#items.length = this.#head = 0;
    } else if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
      this.#items.splice(0, this.#head);
      this.#head = 0;
    }
    return item;
  }
}

class Queue {
  #items = new Fifo();
  #getters = new Fifo();
  #putters = new Fifo();
  constructor(capacity) {
    this.capacity = capacity;
  }
  async put(item) {
    if (this.#getters.length > 0) {
      this.#getters.shift()(item);
      return;
    }
    if (this.#items.length >= this.capacity) {
      await new Promise((resolve) => this.#putters.push({ item, resolve }));
      return;
    }
    this.#items.push(item);
  }
  async get() {
    if (this.#items.length === 0) {
      return new Promise((resolve) => this.#getters.push(resolve));
    }
    const item = this.#items.shift();
    if (this.#putters.length > 0) {
      const putter = this.#putters.shift();
      this.#items.push(putter.item);
      putter.resolve();
    }
    return item;
  }
}

class Mutex {
  #locked = false;
  #waiters = new Fifo();
  async acquire() {
    if (this.#locked) {
      await new Promise((resolve) => this.#waiters.push(resolve));
    }
    this.#locked = true;
  }
  release() {
    if (this.#waiters.length > 0) {
      this.#waiters.shift()();
    } else {
      this.#locked = false;
    }
  }
}

const now = () => process.hrtime.bigint();

// A row that is measured as a whole, after a tenth of n to warm up.
function timed(row) {
  return async (name, n) => {
    await row(Math.max(1, Math.floor(n / 10)));
    const start = now();
    await row(n);
    return [[name, n, now() - start, 0]];
  };
}

function resident() {
  return process.memoryUsage.rss();
}

async function instant() {
  return 1;
}

async function suspending() {
  await setImmediate();
  return 1;
}

async function yields(n) {
  for (let i = 0; i < n; i++) {
    await setImmediate();
  }
}

async function yieldsOfTwo(n) {
  await Promise.all([yields(n / 2), yields(n / 2)]);
}

async function spawnAndAwait(n) {
  for (let i = 0; i < n; i++) {
    await instant();
  }
}

function gather(child) {
  return async (n) => {
    for (let i = 0; i < Math.max(1, Math.floor(n / GROUP)); i++) {
      await Promise.all(Array.from({ length: GROUP }, child));
    }
  };
}

// Gathers of so many that suspend once. The first is not measured.
function bursts(size) {
  const burst = (size) => Promise.all(Array.from({ length: size }, suspending));
  return async (name, n) => {
    const each = Math.min(size, n);
    await burst(each);
    const start = now();
    let done = 0;
    for (; done + each <= n; done += each) {
      await burst(each);
    }
    return [[name, done, now() - start, 0]];
  };
}

async function queuePingPong(n) {
  const ping = new Queue(1);
  const pong = new Queue(1);
  const echo = (async () => {
    for (let i = 0; i < n; i++) {
      await pong.put(await ping.get());
    }
  })();
  for (let i = 0; i < n; i++) {
    await ping.put(i);
    await pong.get();
  }
  await echo;
}

async function queueThroughput(n) {
  const queue = new Queue(1000);
  const producer = (async () => {
    for (let i = 0; i < n; i++) {
      await queue.put(i);
    }
  })();
  for (let i = 0; i < n; i++) {
    await queue.get();
  }
  await producer;
}

async function uncontended(n) {
  const lock = new Mutex();
  let held = 0;
  for (let i = 0; i < n; i++) {
    await lock.acquire();
    held++;
    lock.release();
  }
  if (held !== n) throw new Error(`held ${held} times`);
}

async function contended(n) {
  const lock = new Mutex();
  const contend = async () => {
    for (let i = 0; i < Math.max(1, Math.floor(n / CONTENDERS)); i++) {
      await lock.acquire();
      try {
        await setImmediate();
      } finally {
        lock.release();
      }
    }
  };
  await Promise.all(Array.from({ length: CONTENDERS }, contend));
}

async function sleepers(n) {
  await Promise.all(Array.from({ length: n }, () => sleep(1)));
}

async function suspend(n) {
  const before = resident();
  let start = now();
  let open;
  const gate = new Promise((resolve) => (open = resolve));
  const wait = async () => {
    await gate;
  };
  const tasks = Array.from({ length: n }, wait);
  const create = now() - start;
  const held = resident() - before;

  start = now();
  open();
  for (const task of tasks) {
    await task;
  }
  return [create, now() - start, held];
}

async function suspended(name, n) {
  const [create, finish, held] = await suspend(n);
  const [createAgain, finishAgain] = await suspend(n);
  return [
    ["suspended_create", n, create, held],
    ["suspended_finish", n, finish, 0],
    ["suspended_create_again", n, createAgain, 0],
    ["suspended_finish_again", n, finishAgain, 0],
  ];
}

async function growth(name, n) {
  const [create, finish, held] = await suspend(n);
  return [[name, n, create + finish, held]];
}

async function timers(n) {
  for (let i = 0; i < n; i++) {
    clearTimeout(setTimeout(() => {}, 3_600_000));
  }
}

// A controller for each: one signal for all would be searched for each listener.
async function cancels(name, n) {
  const controllers = [];
  const tasks = [];
  for (let i = 0; i < n; i++) {
    const controller = new AbortController();
    controllers.push(controller);
    tasks.push(sleep(3_600_000, undefined, { signal: controller.signal }));
  }
  await setImmediate();
  const start = now();
  for (const controller of controllers) {
    controller.abort();
  }
  const results = await Promise.allSettled(tasks);
  const took = now() - start;
  if (!results.every((r) => r.reason?.name === "AbortError")) {
    throw new Error("one was not cancelled");
  }
  return [[name, n, took, 0]];
}

// The other side of the rows with a thread is this file again, in a worker.
function inWorker(kind, n, onMessage) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: { kind, n } });
    worker.on("error", reject);
    worker.on("exit", resolve);
    worker.on("message", (m) => onMessage(m, worker));
  });
}

async function threadsafe(name, n) {
  let calls = 0;
  let start;
  let took;
  await inWorker("send", n, (m, worker) => {
    if (m === "ready") {
      start = now();
      worker.postMessage("go");
    } else if (++calls === n) {
      took = now() - start;
    }
  });
  if (calls !== n) throw new Error(`${calls} calls`);
  return [[name, n, took, 0]];
}

async function threadsafeLatency(name, n) {
  let start;
  let took;
  await inWorker("ask", n, (m, worker) => {
    if (m === "ready") {
      start = now();
      worker.postMessage("go");
    } else if (m === "done") {
      took = now() - start;
    } else {
      worker.postMessage(m);
    }
  });
  return [[name, n, took, 0]];
}

// One worker that is there already, as a pool of them has.
async function toThread(name, n) {
  let start;
  let took;
  let left = n;
  await inWorker("answer", n, (m, worker) => {
    if (m === "ready") {
      start = now();
    } else {
      left--;
    }
    if (left === 0) {
      took = now() - start;
      worker.postMessage("end");
    } else {
      worker.postMessage(1);
    }
  });
  return [[name, n, took, 0]];
}

function work({ kind, n }) {
  let left = n;
  parentPort.on("message", (m) => {
    if (kind === "send") {
      for (let i = 0; i < n; i++) {
        parentPort.postMessage(i);
      }
      parentPort.close();
    } else if (kind === "ask") {
      if (m !== "go") {
        left--;
      }
      if (left > 0) {
        parentPort.postMessage(left);
      } else {
        parentPort.postMessage("done");
        parentPort.close();
      }
    } else if (m === "end") {
      parentPort.close();
    } else {
      parentPort.postMessage(m);
    }
  });
  parentPort.postMessage("ready");
}

// An echo server. Node sizes its buffers by itself.
function echo() {
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on("error", () => {}); // the peer is gone
    socket.pipe(socket);
  });
  server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () => console.log(server.address().port));
}

const rows = {
  yield1: timed(yields),
  yield2: timed(yieldsOfTwo),
  spawn: timed(spawnAndAwait),
  gather_now: timed(gather(instant)),
  gather_suspend: timed(gather(suspending)),
  gather3000: bursts(3000),
  gather10000: bursts(10_000),
  gather100000: bursts(100_000),
  queue1: timed(queuePingPong),
  queue1000: timed(queueThroughput),
  lock: timed(uncontended),
  lock100: timed(contended),
  sleepers: timed(sleepers),
  suspended,
  growth,
  timer: timed(timers),
  cancel: cancels,
  threadsafe,
  threadsafe_latency: threadsafeLatency,
  tothread: toThread,
};

if (!isMainThread) {
  work(workerData);
} else {
  const args = process.argv.slice(2);
  if (args[0] === "version") {
    console.log(`Node ${process.version}, V8 ${process.versions.v8}`);
  } else if (args[0] === "rows") {
    console.log(Object.keys(rows).sort().join("\n"));
  } else if (args[0] === "serve" && args[1] === "pipe") {
    echo();
  } else if (args[0] === "serve") {
    http.serve(args[1], Number(args[2]));
  } else if (args[0] === "fetch") {
    await http.fetch(...args.slice(2).map(Number));
  } else {
    for (const measurement of await rows[args[0]](args[0], Number(args[1]))) {
      console.log(measurement.join(","));
    }
  }
}

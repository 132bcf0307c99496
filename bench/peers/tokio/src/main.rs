//! The rows of the comparison, as a program for tokio's current_thread runtime. The lines it
//! prints are those of internal/peer.

use std::future::ready;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, Mutex, Notify};
use tokio::task::{yield_now, JoinHandle, JoinSet};
use tokio::time::sleep;

const GROUP: usize = 1000;
const CONTENDERS: usize = 100;
const HOUR: Duration = Duration::from_secs(3600);

struct Measurement {
    row: &'static str,
    n: usize,
    total: Duration,
    bytes: u64,
}

/// A row that is measured as a whole, after a tenth of n to warm up.
macro_rules! timed {
    ($name:expr, $n:expr, $row:expr) => {{
        $row(($n / 10).max(1)).await;
        let start = Instant::now();
        $row($n).await;
        vec![Measurement { row: $name, n: $n, total: start.elapsed(), bytes: 0 }]
    }};
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(0, |kb| kb * 1024)
}

async fn instant() -> usize {
    1
}

async fn suspending() -> usize {
    yield_now().await;
    1
}

async fn yields(n: usize) {
    for _ in 0..n {
        yield_now().await;
    }
}

async fn yields_of_two(n: usize) {
    let other = tokio::spawn(yields(n / 2));
    yields(n / 2).await;
    other.await.unwrap();
}

async fn spawn_and_await(n: usize) {
    for _ in 0..n {
        tokio::spawn(instant()).await.unwrap();
    }
}

async fn gather_now(n: usize) {
    for _ in 0..(n / GROUP).max(1) {
        let tasks: Vec<JoinHandle<usize>> = (0..GROUP).map(|_| tokio::spawn(instant())).collect();
        gather(tasks, GROUP).await;
    }
}

/// Gathers of so many that suspend once. The first is not measured.
async fn bursts(row: &'static str, size: usize, n: usize) -> Vec<Measurement> {
    let size = size.min(n);
    burst(size).await;
    let start = Instant::now();
    let mut done = 0;
    while done + size <= n {
        burst(size).await;
        done += size;
    }
    vec![Measurement { row, n: done, total: start.elapsed(), bytes: 0 }]
}

async fn burst(size: usize) {
    let tasks: Vec<JoinHandle<usize>> = (0..size).map(|_| tokio::spawn(suspending())).collect();
    gather(tasks, size).await;
}

async fn gather_suspend(n: usize) {
    for _ in 0..(n / GROUP).max(1) {
        burst(GROUP).await;
    }
}

async fn gather(tasks: Vec<JoinHandle<usize>>, size: usize) {
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        results.push(task.await.unwrap());
    }
    assert_eq!(results.len(), size);
}

async fn queue_ping_pong(n: usize) {
    let (ping, mut pinged) = mpsc::channel(1);
    let (pong, mut ponged) = mpsc::channel(1);
    let echo = tokio::spawn(async move {
        while let Some(v) = pinged.recv().await {
            pong.send(v).await.unwrap();
        }
    });
    for i in 0..n {
        ping.send(i).await.unwrap();
        ponged.recv().await.unwrap();
    }
    drop(ping);
    echo.await.unwrap();
}

async fn queue_throughput(n: usize) {
    let (tx, mut rx) = mpsc::channel(1000);
    let producer = tokio::spawn(async move {
        for i in 0..n {
            tx.send(i).await.unwrap();
        }
    });
    let mut got = 0;
    while rx.recv().await.is_some() {
        got += 1;
    }
    assert_eq!(got, n);
    producer.await.unwrap();
}

async fn uncontended(n: usize) {
    let lock = Mutex::new(0);
    for _ in 0..n {
        *lock.lock().await += 1;
    }
    assert_eq!(lock.into_inner(), n);
}

async fn contended(n: usize) {
    let lock = Arc::new(Mutex::new(()));
    let mut tasks = JoinSet::new();
    for _ in 0..CONTENDERS {
        let lock = lock.clone();
        tasks.spawn(async move {
            for _ in 0..(n / CONTENDERS).max(1) {
                let _held = lock.lock().await;
                yield_now().await;
            }
        });
    }
    join_all(tasks).await;
}

async fn join_all(mut tasks: JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

async fn sleepers(n: usize) {
    let mut tasks = JoinSet::new();
    for _ in 0..n {
        tasks.spawn(sleep(Duration::from_millis(1)));
    }
    join_all(tasks).await;
}

async fn suspend(n: usize) -> (Duration, Duration, u64) {
    let before = resident();
    let start = Instant::now();
    let gate = Arc::new(Notify::new());
    let waiting = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<JoinHandle<()>> = (0..n)
        .map(|_| {
            let (gate, waiting) = (gate.clone(), waiting.clone());
            tokio::spawn(async move {
                waiting.fetch_add(1, Relaxed);
                gate.notified().await;
            })
        })
        .collect();
    yield_now().await; // all of them start, and wait
    let create = start.elapsed();
    let bytes = resident().saturating_sub(before);
    assert_eq!(waiting.load(Relaxed), n);

    let start = Instant::now();
    gate.notify_waiters();
    for task in tasks {
        task.await.unwrap();
    }
    (create, start.elapsed(), bytes)
}

async fn timers(n: usize) {
    for _ in 0..n {
        tokio::select! {
            biased;
            _ = sleep(HOUR) => unreachable!(),
            _ = ready(()) => {}
        }
    }
}

async fn cancels(n: usize) -> Duration {
    let tasks: Vec<JoinHandle<()>> = (0..n).map(|_| tokio::spawn(std::future::pending())).collect();
    yield_now().await;
    let start = Instant::now();
    for task in &tasks {
        task.abort();
    }
    for task in tasks {
        assert!(task.await.unwrap_err().is_cancelled());
    }
    start.elapsed()
}

async fn task_group(n: usize) {
    for _ in 0..(n / GROUP).max(1) {
        let mut tasks = JoinSet::new();
        for _ in 0..GROUP {
            tasks.spawn(ready(()));
        }
        join_all(tasks).await;
    }
}

/// Functions on the state of one task, sent by a thread.
async fn threadsafe(n: usize) {
    let (tx, mut rx) = mpsc::unbounded_channel::<fn(&mut usize)>();
    let sender = std::thread::spawn(move || {
        for _ in 0..n {
            tx.send(|calls| *calls += 1).unwrap();
        }
    });
    let mut calls = 0;
    while let Some(f) = rx.recv().await {
        f(&mut calls);
    }
    assert_eq!(calls, n);
    sender.join().unwrap();
}

async fn threadsafe_latency(n: usize) {
    let (tx, mut rx) = mpsc::unbounded_channel();
    let (answer, answered) = std::sync::mpsc::sync_channel(1);
    let sender = std::thread::spawn(move || {
        for i in 0..n {
            tx.send(i).unwrap();
            answered.recv().unwrap();
        }
    });
    while let Some(i) = rx.recv().await {
        answer.send(i).unwrap();
    }
    sender.join().unwrap();
}

async fn to_thread(n: usize) {
    for _ in 0..n {
        tokio::task::spawn_blocking(|| 1).await.unwrap();
    }
}

/// An echo server; its buffers have size bytes.
async fn echo(size: usize) -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (mut socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut buf = vec![0; size];
            loop {
                match socket.read(&mut buf).await {
                    Ok(0) | Err(_) => return,
                    Ok(n) => {
                        if socket.write_all(&buf[..n]).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
    }
}

const ROWS: [&str; 21] = [
    "yield1", "yield2", "spawn", "gather_now", "gather_suspend", "gather3000", "gather10000", "gather100000",
    "queue1", "queue1000", "lock", "lock100",
    "sleepers", "suspended", "growth", "timer", "cancel", "taskgroup", "threadsafe", "threadsafe_latency",
    "tothread",
];

async fn run(row: String, n: usize) -> Vec<Measurement> {
    match row.as_str() {
        "yield1" => timed!("yield1", n, yields),
        "yield2" => timed!("yield2", n, yields_of_two),
        "spawn" => timed!("spawn", n, spawn_and_await),
        "gather_now" => timed!("gather_now", n, gather_now),
        "gather_suspend" => timed!("gather_suspend", n, gather_suspend),
        "gather3000" => bursts("gather3000", 3000, n).await,
        "gather10000" => bursts("gather10000", 10_000, n).await,
        "gather100000" => bursts("gather100000", 100_000, n).await,
        "queue1" => timed!("queue1", n, queue_ping_pong),
        "queue1000" => timed!("queue1000", n, queue_throughput),
        "lock" => timed!("lock", n, uncontended),
        "lock100" => timed!("lock100", n, contended),
        "sleepers" => timed!("sleepers", n, sleepers),
        "suspended" => {
            let (create, finish, bytes) = suspend(n).await;
            let (create_again, finish_again, _) = suspend(n).await;
            vec![
                Measurement { row: "suspended_create", n, total: create, bytes },
                Measurement { row: "suspended_finish", n, total: finish, bytes: 0 },
                Measurement { row: "suspended_create_again", n, total: create_again, bytes: 0 },
                Measurement { row: "suspended_finish_again", n, total: finish_again, bytes: 0 },
            ]
        }
        "growth" => {
            let (create, finish, bytes) = suspend(n).await;
            vec![Measurement { row: "growth", n, total: create + finish, bytes }]
        }
        "timer" => timed!("timer", n, timers),
        "cancel" => vec![Measurement { row: "cancel", n, total: cancels(n).await, bytes: 0 }],
        "taskgroup" => timed!("taskgroup", n, task_group),
        "threadsafe" => timed!("threadsafe", n, threadsafe),
        "threadsafe_latency" => timed!("threadsafe_latency", n, threadsafe_latency),
        "tothread" => timed!("tothread", n, to_thread),
        _ => panic!("no row {row}"),
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["version"] => println!("tokio {}", env!("LIBRARY_VERSION")),
        ["rows"] => println!("{}", ROWS.join("\n")),
        ["serve", _, size] => {
            let size = size.parse().expect("size is a number");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { tokio::spawn(echo(size)).await.unwrap() }).unwrap();
        }
        [row, n] => {
            let (row, n) = (row.to_string(), n.parse().expect("n is a number"));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            // In a task, which is cheaper to wake than the future that block_on runs itself.
            let measured = runtime.block_on(async { tokio::spawn(run(row, n)).await.unwrap() });
            for m in measured {
                println!("{},{},{},{}", m.row, m.n, m.total.as_nanos(), m.bytes);
            }
        }
        _ => panic!("usage: version | rows | serve streams SIZE | ROW N"),
    }
}

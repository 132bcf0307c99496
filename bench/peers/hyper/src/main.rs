//! The rows about HTTP, as a program that uses hyper on tokio's current_thread runtime. The lines
//! it prints are those of internal/peer.

use std::convert::Infallible;
use std::future::Future;

use hyper::body::{Bytes, HttpBody};
use hyper::header::{HeaderValue, CONTENT_TYPE};
use hyper::server::conn::Http;
use hyper::service::service_fn;
use hyper::{Body, Client, Request, Response, StatusCode, Uri};
use tokio::net::TcpListener;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How many requests a client makes at the same time.
const AT_ONCE: usize = 100;

/// Serves bodies of size bytes.
async fn serve(http2: bool, size: usize) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let body = Bytes::from(vec![b'x'; size]);
    let mut http = Http::new();
    if http2 {
        http.http2_only(true);
    } else {
        http.http1_only(true);
    }
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let body = body.clone();
        let connection = http.serve_connection(
            socket,
            service_fn(move |request: Request<Body>| {
                if request.uri().path() == "/collect" {
                    // gives free memory back, as a collector would
                    unsafe { libc::malloc_trim(0) };
                }
                let mut response = Response::new(Body::from(body.clone()));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                async move { Ok::<_, Infallible>(response) }
            }),
        );
        tokio::spawn(async move {
            let _ = connection.await; // the client is gone
        });
    }
}

/// Makes n requests, AT_ONCE at the same time.
async fn fetch_all(client: &Client<hyper::client::HttpConnector>, uri: &Uri, size: usize, n: usize) -> Result<()> {
    let mut tasks = Vec::new();
    for one in 0..AT_ONCE {
        let (client, uri) = (client.clone(), uri.clone());
        tasks.push(tokio::spawn(async move {
            for _ in 0..(n + AT_ONCE - 1 - one) / AT_ONCE {
                let response = client.get(uri.clone()).await?;
                assert_eq!(response.status(), StatusCode::OK);
                let (mut body, mut got) = (response.into_body(), 0);
                while let Some(part) = body.data().await {
                    got += part?.len();
                }
                assert_eq!(got, size);
            }
            Result::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn fetch(port: u16, size: usize, n: usize) -> Result<()> {
    let client = Client::new();
    let uri: Uri = format!("http://127.0.0.1:{port}/").parse()?;
    fetch_all(&client, &uri, size, (n / 10).max(AT_ONCE)).await?;
    let before = processor_time();
    fetch_all(&client, &uri, size, n).await?;
    println!("http1,{},{},0", n, processor_time() - before);
    Ok(())
}

/// The nanoseconds that all threads of this process have run.
fn processor_time() -> i64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut t) };
    assert_eq!(failed, 0);
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}

fn run(work: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // In a task, which is cheaper to wake than the future that block_on runs itself.
    runtime.block_on(async { tokio::spawn(work).await? })
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["version"] => println!("hyper {}", env!("LIBRARY_VERSION")),
        ["rows"] => {}
        ["serve", kind @ ("http1" | "http2"), size] => run(serve(kind == "http2", size.parse()?))?,
        ["fetch", "http1", port, size, n] => run(fetch(port.parse()?, size.parse()?, n.parse()?))?,
        _ => panic!("usage: version | rows | serve http1|http2 SIZE | fetch http1 PORT SIZE N"),
    }
    Ok(())
}

//! What TCP on this machine gives without any broker: a copy, and round trips.
//!
//! Owns `bench loopback`, and the copy that is the limit of fetching.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio_util::task::AbortOnDropHandle;

use super::args::LoopbackArgs;
use super::course::per_second;
use super::figure::{Figure, Unit};
use super::ground::{Ground, blocking};
use super::latencies::Latencies;

/// Bytes of a write, and of a read at most.
const BLOCK: usize = 64 << 10;
/// What the limit is called.
pub(crate) const COPY: &str = "TCP copy, 64 KiB";

/// Two ends of a connection.
async fn pair() -> anyhow::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let one = TcpStream::connect(listener.local_addr()?).await?;
    let (other, _) = listener.accept().await?;
    one.set_nodelay(true)?;
    other.set_nodelay(true)?;
    Ok((one, other))
}

/// Copies bytes from one task to another; bytes per second.
pub(crate) async fn copy(bytes: u64) -> anyhow::Result<f64> {
    let (mut source, mut sink) = pair().await?;
    let begun = Instant::now();
    let sent: AbortOnDropHandle<std::io::Result<()>> =
        AbortOnDropHandle::new(tokio::spawn(async move {
            let block = vec![b'x'; BLOCK];
            let mut left = bytes;
            while left > 0 {
                let now = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
                source.write_all(&block[..now]).await?;
                left -= now as u64;
            }
            Ok(())
        }));
    let taken: AbortOnDropHandle<std::io::Result<u64>> =
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut block = vec![0; BLOCK];
            let mut taken = 0;
            loop {
                match sink.read(&mut block).await? {
                    0 => return Ok(taken),
                    now => taken += now as u64,
                }
            }
        }));
    sent.await??;
    let taken = taken.await??;
    Ok(per_second(taken, begun.elapsed()))
}

/// Round trips of so many bytes.
async fn round_trips(bytes: usize, count: u32) -> anyhow::Result<Latencies> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let near = std::net::TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    let echo = blocking(move |_| alone(echo(far, bytes)));
    let asked = blocking(move |_| alone(ask(near, bytes, count)));
    let (latencies, echoed) = tokio::join!(asked, echo);
    echoed?;
    latencies
}

/// Runs one end on a runtime and a thread of its own, as two programs would.
fn alone<T>(end: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(end)
}

fn socket(socket: std::net::TcpStream) -> anyhow::Result<TcpStream> {
    socket.set_nonblocking(true)?;
    socket.set_nodelay(true)?;
    Ok(TcpStream::from_std(socket)?)
}

/// Sends back what comes, until nothing comes any more.
async fn echo(far: std::net::TcpStream, bytes: usize) -> anyhow::Result<()> {
    let mut far = socket(far)?;
    let mut block = vec![0; bytes];
    while far.read_exact(&mut block).await.is_ok() {
        far.write_all(&block).await?;
    }
    Ok(())
}

async fn ask(near: std::net::TcpStream, bytes: usize, count: u32) -> anyhow::Result<Latencies> {
    let mut near = socket(near)?;
    let mut latencies = Latencies::new()?;
    let mut block = vec![b'x'; bytes];
    for _ in 0..count {
        let begun = Instant::now();
        near.write_all(&block).await?;
        near.read_exact(&mut block).await?;
        latencies.record(begun.elapsed());
    }
    Ok(latencies)
}

/// Measures the loopback.
pub(super) async fn run(_: &Ground, arguments: &LoopbackArgs) -> anyhow::Result<Vec<Figure>> {
    let bytes = arguments.bytes.0;
    let copied = copy(bytes).await?;
    let mut figures = vec![
        Figure::new("loopback, copy 64 KiB", copied, Unit::BytesPerSecond)
            .parameter("bytes", bytes),
    ];
    for size in [1, 100] {
        let latencies = round_trips(size, arguments.round_trips).await?;
        for (percent, name) in [(50.0, "p50"), (99.0, "p99")] {
            let name = format!("loopback, round trip of {size} B, {name}");
            let figure = Figure::seconds(&name, latencies.percentile(percent));
            figures.push(figure.parameter("round trips", latencies.len()));
        }
    }
    Ok(figures)
}

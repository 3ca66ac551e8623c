//! The `logdrive` program.

fn main() -> anyhow::Result<()> {
    let data = std::env::args().nth(2).unwrap_or_default().into();
    let listen = std::env::args().nth(3).unwrap_or_default().parse()?;
    logdrive::server::serve(logdrive::server::Options { data, listen })
}

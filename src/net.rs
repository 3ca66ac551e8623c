//! The socket types, in one place, so that a simulated network can stand in for them.

pub use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
pub use tokio::net::{TcpListener, TcpStream};

//! The head of a link over TCP: the connection that says that both sides are there, why the link
//! ends, and what streams the side wants that cannot dial.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsStream;

use crate::link::{CloseReason, LinkError};
use crate::tcp::{TcpConfig, tls_error};

/// A byte for each thing that is said; codes of [`CloseReason`] are 1 to 5.
const ALIVE: u8 = 0;
/// A stream is wanted: its number follows.
const OPEN: u8 = 16;

#[derive(Debug)]
pub(crate) enum Command {
    Close(CloseReason),
    Open(u64),
    /// Nobody holds the link any more.
    GiveUp,
}

/// Runs until the link ends, and tells how. Streams that the peer wants go to `wanted`.
pub(crate) async fn run(
    stream: TlsStream<TcpStream>,
    config: &TcpConfig,
    commands: mpsc::UnboundedReceiver<Command>,
    wanted: impl Fn(u64) -> Result<(), LinkError>,
) -> LinkError {
    let (read, write) = tokio::io::split(stream);
    tokio::select! {
        biased;
        error = say(write, config.keep_alive, commands) => error,
        error = hear(read, config.idle_timeout, wanted) => error,
    }
}

async fn say(
    mut write: WriteHalf<TlsStream<TcpStream>>,
    keep_alive: Duration,
    mut commands: mpsc::UnboundedReceiver<Command>,
) -> LinkError {
    let mut ticks = interval(keep_alive);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let command = tokio::select! {
            biased;
            command = commands.recv() => command.unwrap_or(Command::GiveUp),
            _ = ticks.tick() => {
                if let Err(error) = write_out(&mut write, &[ALIVE]).await {
                    return tls_error(&error);
                }
                continue;
            }
        };
        let written = match command {
            Command::Open(number) => {
                let mut bytes = [OPEN; 9];
                bytes[1..].copy_from_slice(&number.to_be_bytes());
                write_out(&mut write, &bytes).await
            }
            Command::Close(reason) => {
                // Who does not hear of it sees that the connection has ended.
                let _ = write_out(&mut write, &[reason.code() as u8]).await;
                let _ = write.shutdown().await;
                return LinkError::Closed(reason);
            }
            Command::GiveUp => {
                let _ = write.shutdown().await;
                return LinkError::Transport("given up without a reason".to_owned());
            }
        };
        if let Err(error) = written {
            return tls_error(&error);
        }
    }
}

async fn write_out(
    write: &mut WriteHalf<TlsStream<TcpStream>>,
    bytes: &[u8],
) -> std::io::Result<()> {
    write.write_all(bytes).await?;
    write.flush().await
}

async fn hear(
    mut read: ReadHalf<TlsStream<TcpStream>>,
    idle_timeout: Duration,
    wanted: impl Fn(u64) -> Result<(), LinkError>,
) -> LinkError {
    let mut byte = [0; 1];
    loop {
        match timeout(idle_timeout, read.read(&mut byte)).await {
            Err(_) => return LinkError::TimedOut("nothing was heard".to_owned()),
            Ok(Err(error)) => return tls_error(&error),
            Ok(Ok(0)) => {
                return LinkError::Transport("given up by the peer without a reason".to_owned());
            }
            Ok(Ok(_)) => {}
        }
        match byte[0] {
            ALIVE => {}
            OPEN => match timeout(idle_timeout, read.read_u64()).await {
                Err(_) => return LinkError::TimedOut("nothing was heard".to_owned()),
                Ok(Err(error)) => return tls_error(&error),
                Ok(Ok(number)) => {
                    if let Err(error) = wanted(number) {
                        return error;
                    }
                }
            },
            code => {
                return match CloseReason::of_code(code.into()) {
                    Some(reason) => LinkError::ClosedByPeer(reason),
                    None => LinkError::Transport(format!("the peer says {code}")),
                };
            }
        }
    }
}

//! What QUIC says of a connection's end, in our words.

use quinn::{ConnectError, ConnectionError, VarInt};

use crate::admission::alert;
use crate::link::{CloseReason, LinkError};

/// The connection's own number for "nobody holds it any more".
const DROPPED: u64 = 0;
/// A server has too many handshakes under way.
const CONNECTION_REFUSED: u64 = 0x02;
/// Above it is a TLS alert.
const CRYPTO: u64 = 0x100;

/// `closed` is the reason for which this side has closed it, if it has.
pub(crate) fn link_error(error: &ConnectionError, closed: Option<CloseReason>) -> LinkError {
    match error {
        ConnectionError::TimedOut => LinkError::TimedOut("nothing was heard".to_owned()),
        ConnectionError::Reset => LinkError::Reset,
        ConnectionError::ApplicationClosed(close) => of_code(close.error_code),
        ConnectionError::LocallyClosed => match closed {
            Some(reason) => LinkError::Closed(reason),
            None => LinkError::Transport("given up without a reason".to_owned()),
        },
        // Ours: the peer's certificate, or something else about it, does not do.
        ConnectionError::TransportError(error) => {
            of_transport(error.code.into(), "the peer shows", &error.reason)
        }
        // The peer's: it says the same of us.
        ConnectionError::ConnectionClosed(close) => {
            let reason = String::from_utf8_lossy(&close.reason);
            of_transport(close.error_code.into(), "the peer says that we show", &reason)
        }
        ConnectionError::VersionMismatch => {
            LinkError::Transport("the peer speaks another version of QUIC".to_owned())
        }
        ConnectionError::CidsExhausted => LinkError::Transport(error.to_string()),
    }
}

pub(crate) fn connect_error(error: &ConnectError) -> LinkError {
    LinkError::Transport(error.to_string())
}

pub(crate) fn code(reason: CloseReason) -> VarInt {
    VarInt::from_u32(reason.code())
}

fn of_code(code: VarInt) -> LinkError {
    let code = code.into_inner();
    match CloseReason::of_code(code) {
        Some(reason) => LinkError::ClosedByPeer(reason),
        None if code == DROPPED => {
            LinkError::Transport("given up by the peer without a reason".to_owned())
        }
        None => LinkError::Transport(format!("closed by the peer for an unknown reason, {code}")),
    }
}

fn of_transport(code: u64, who: &str, reason: &str) -> LinkError {
    let said = |what: &str| match reason {
        "" => format!("{who} {what}"),
        // It is the peer's, who may be anybody.
        reason => format!("{who} {what} ({})", reason.chars().take(200).collect::<String>()),
    };
    let number = code.checked_sub(CRYPTO).and_then(|number| u8::try_from(number).ok());
    match (number.and_then(alert), code) {
        (Some(what), _) => LinkError::Untrusted(said(what)),
        (None, CONNECTION_REFUSED) => {
            LinkError::Transport("the peer has too many handshakes under way".to_owned())
        }
        (None, _) => LinkError::Transport(said(&format!("an error of QUIC, {code:#x}"))),
    }
}

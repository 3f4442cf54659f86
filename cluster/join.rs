//! How a stranger becomes a node: a token for a certificate, over one stream of a Join connection.
//!
//! The new machine makes its key, which never leaves it, and sends the token and a request that the
//! key has signed. The authority answers with a certificate, its own, and the list of revoked ones;
//! or says why not. Whom the token is sent to is [`join_trust`](crate::join_trust)'s matter.
//!
//! A token is used up before its certificate leaves the authority's disk. If the answer is lost on
//! its way, the operator makes another token, and the certificate that nobody has the key of any
//! more expires, or is revoked by the node's name.
//!
//! On the wire: four bytes of length (little-endian), then a [`codec`] frame, each way once.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};
use rcgen::PublicKeyData;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::address::NodeId;
use crate::authority::Authority;
use crate::authority_forms::{self as forms, FormError};
use crate::authority_tokens::Redeem;
use crate::codec::{self, CodecError};
use crate::identity_certificate::{BadCertificate, Revocations, authority_pin, pin, verify_issued};
use crate::identity_clock::{Clock, now};
use crate::identity_files::FileError;
use crate::identity_folder::Folder;
use crate::identity_names::Names;
use crate::link::Stream;
use crate::token::{JoinToken, Refusal, Secret, TokenId};

/// A token and a request for a certificate have about 300 bytes.
pub(crate) const REQUEST_BYTES_MAX: usize = 4 << 10;
/// Two certificates, and a list of up to 50,000 revoked ones.
pub(crate) const ANSWER_BYTES_MAX: usize = 4 << 20;
/// For the whole exchange, on each side.
pub const JOIN_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, Encode, Decode)]
pub(crate) struct Request {
    pub(crate) token: TokenId,
    pub(crate) secret: Secret,
    /// Who the new machine believes it is to be. The token decides; this only finds mistakes.
    pub(crate) node: Option<NodeId>,
    /// PKCS #10, DER.
    pub(crate) request: Vec<u8>,
}

#[derive(Debug, Encode, Decode)]
pub(crate) enum Answer {
    /// All DER.
    Granted {
        certificate: Vec<u8>,
        authority: Vec<u8>,
        revocations: Vec<u8>,
    },
    Refused(Refusal),
}

/// How a join failed, on either side.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("{0}")]
    Refused(Refusal),
    #[error("no answer within {} s", JOIN_DEADLINE.as_secs())]
    TimedOut,
    #[error("the connection: {0}")]
    Stream(#[from] io::Error),
    #[error("what the peer sent: {0}")]
    Message(#[from] CodecError),
    /// What the authority gave is not what was asked for.
    #[error("the authority's answer: {0}")]
    Certificate(#[from] BadCertificate),
    #[error("the authority's answer: expected {expected}, found {found}")]
    Answer { expected: &'static str, found: String },
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot make {0}")]
    Form(#[from] FormError),
}

/// Answers one stranger.
///
/// # Errors
/// Those of the connection and of the request; a refusal too, after it was sent.
pub async fn serve_join(mut stream: Stream, authority: &Arc<Authority>) -> Result<(), JoinError> {
    let served = timeout(JOIN_DEADLINE, async {
        let request = read(&mut stream.receive, REQUEST_BYTES_MAX).await?;
        let answer = answer(authority, &request).await;
        let frame = codec::encode(&answer, ANSWER_BYTES_MAX)?;
        write(&mut stream.send, &frame).await?;
        // Who asked ends the exchange when it has the answer, which the end of the connection would
        // overtake otherwise. How it ends it is its affair.
        let _ = tokio::io::copy(&mut stream.receive.take(1), &mut tokio::io::sink()).await;
        match answer {
            Answer::Granted { .. } => Ok(()),
            Answer::Refused(why) => Err(JoinError::Refused(why)),
        }
    });
    served.await.unwrap_or(Err(JoinError::TimedOut))
}

async fn answer(authority: &Arc<Authority>, frame: &[u8]) -> Answer {
    let Ok(asked) = codec::decode::<Request>(frame, REQUEST_BYTES_MAX) else {
        return Answer::Refused(Refusal::BadRequest);
    };
    let authority = authority.clone();
    // Its books are on disk, and may be locked by another process.
    let granted = tokio::task::spawn_blocking(move || grant(&authority, &asked)).await;
    granted.unwrap_or(Answer::Refused(Refusal::Failed))
}

fn grant(authority: &Authority, asked: &Request) -> Answer {
    let request = CertificateSigningRequestDer::from(asked.request.as_slice());
    let granted = authority
        .redeem(asked.token, &asked.secret, asked.node.as_ref(), &request)
        .and_then(|certificate| Ok((certificate, authority.crl().map_err(Redeem::Failed)?)));
    match granted {
        Ok((certificate, revocations)) => {
            tracing::info!(token = %asked.token, "a node has joined");
            Answer::Granted {
                certificate: certificate.to_vec(),
                authority: authority.certificate().to_vec(),
                revocations: revocations.to_vec(),
            }
        }
        Err(Redeem::Refused(why)) => {
            tracing::warn!(token = %asked.token, %why, "a join was refused");
            Answer::Refused(why)
        }
        Err(Redeem::Failed(error)) => {
            tracing::error!(token = %asked.token, %error, "a join failed");
            Answer::Refused(Refusal::Failed)
        }
    }
}

/// Where a new identity comes to lie, and whose it should be.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'n> {
    /// Has no identity yet.
    pub folder: &'n Path,
    /// If known. A token for another node is then refused, and not used up.
    pub node: Option<&'n NodeId>,
}

/// Asks for a certificate, and writes the new identity. The stream must be one of a connection that
/// was dialled with [`Stranger`](crate::join_trust::Stranger)'s credentials for this token: the
/// secret goes over it. Writes its files from the calling task.
pub async fn join(
    mut stream: Stream,
    token: &JoinToken,
    newcomer: Newcomer<'_>,
    clock: &Clock,
) -> Result<Names, JoinError> {
    let key = forms::key()?;
    let folder = Folder::new(newcomer.folder);
    // Before the token is used up: whatever is wrong with the folder is told now.
    folder.begin(&PrivatePkcs8KeyDer::from(key.serialized_der()))?;
    let request = Request {
        token: token.id,
        secret: token.secret.clone(),
        node: newcomer.node.cloned(),
        request: forms::request(&key)?.to_vec(),
    };
    let exchange = timeout(JOIN_DEADLINE, async {
        write(&mut stream.send, &codec::encode(&request, REQUEST_BYTES_MAX)?).await?;
        let frame = read(&mut stream.receive, ANSWER_BYTES_MAX).await?;
        // Only now: it tells the authority that its answer has come, and that it may go.
        let _ = stream.send.shutdown().await;
        Ok(codec::decode(&frame, ANSWER_BYTES_MAX)?)
    });
    let answer = exchange.await.unwrap_or(Err(JoinError::TimedOut))?;
    let (certificate, authority, revocations) = match answer {
        Answer::Granted { certificate, authority, revocations } => (
            CertificateDer::from(certificate),
            CertificateDer::from(authority),
            CertificateRevocationListDer::from(revocations),
        ),
        Answer::Refused(why) => return Err(JoinError::Refused(why)),
    };
    let found = authority_pin(&authority)?;
    if found != token.authority {
        return Err(wrong("the authority of the token", found));
    }
    let issued = verify_issued(&certificate, &authority, now(clock))?;
    if issued.key != pin(&key.subject_public_key_info()) {
        return Err(wrong("a certificate of the key that was sent", "one of another key"));
    }
    if newcomer.node.is_some_and(|node| *node != issued.names.node) {
        return Err(wrong("a certificate of the node that joins", &issued.names));
    }
    let revocations = Revocations::read(&revocations, &authority)?;
    folder.finish(&certificate, &authority, Some(&revocations.der))?;
    Ok(issued.names)
}

fn wrong(expected: &'static str, found: impl ToString) -> JoinError {
    JoinError::Answer { expected, found: found.to_string() }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> Result<(), JoinError> {
    // The codec has seen to its length.
    let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_le_bytes()).await?;
    stream.write_all(frame).await?;
    Ok(stream.flush().await?)
}

/// Allocates what has come, not what was announced.
async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> Result<Vec<u8>, JoinError> {
    let length = stream.read_u32_le().await?;
    if length as usize > bytes_max {
        return Err(CodecError::TooLong { bytes_max }.into());
    }
    let mut frame = Vec::new();
    let read = stream.take(u64::from(length)).read_to_end(&mut frame).await?;
    if read < length as usize {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(frame)
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;

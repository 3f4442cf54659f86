//! Join tokens: what lets a stranger become a node, once.
//!
//! A token is one line of text that an operator carries from the authority to the new machine. It
//! has an id, a secret of 256 bits, and the hash of the authority's key, by which the new machine
//! knows whom to give the secret to. Which node and role it is good for, and until when, is written
//! down by the authority, who keeps of the secret a hash only: its books let nobody join.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use sha2::{Digest, Sha256};

use crate::address::NodeId;
use crate::identity_certificate::Pin;
use crate::identity_tls::provider;

/// Says what the text is, to a person and to whoever scans for leaked secrets, and in which
/// version.
const PREFIX: &str = "orcapackjoin1_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;
const PIN_BYTES: usize = 32;
/// Tells a typing error from a token that nobody knows.
const CHECKSUM_BYTES: usize = 4;

/// Names a token without giving it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct TokenId([u8; ID_BYTES]);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// What proves that one was given the token. It is shown to the pinned authority only.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Secret([u8; SECRET_BYTES]);

impl Secret {
    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    /// In a time that does not depend on what is equal.
    pub(crate) fn has_hash(&self, hash: &[u8]) -> bool {
        let own = self.hash();
        let differs = own.iter().zip(hash).fold(0, |differs, (a, b)| differs | (a ^ b));
        hash.len() == own.len() && differs == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    pub id: TokenId,
    pub secret: Secret,
    /// The key of the authority that made it.
    pub authority: Pin,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    #[error("expected a join token, `{PREFIX}` and {} more characters, found {found}", TEXT_CHARS)]
    Form { found: String },
    #[error("the join token was mistyped or cut: its checksum does not match")]
    Checksum,
}

/// Why a stranger gets no certificate. It goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Encode, Decode)]
pub enum Refusal {
    #[error("the authority knows no such join token")]
    UnknownToken,
    #[error("the join token was used already: each is good for one join")]
    UsedToken,
    #[error("the join token has expired")]
    ExpiredToken,
    #[error("the join token is for node `{node}`")]
    OtherNode { node: NodeId },
    #[error("the node has no certificate that is valid and not revoked")]
    NoCertificate,
    #[error("the request is not one that the authority understands")]
    BadRequest,
    /// Its own fault, of which its log says more.
    #[error("the authority could not issue a certificate")]
    Failed,
}

const PAYLOAD_BYTES: usize = ID_BYTES + SECRET_BYTES + PIN_BYTES;
const TEXT_CHARS: usize = ((PAYLOAD_BYTES + CHECKSUM_BYTES) * 4).div_ceil(3);

impl JoinToken {
    /// A new one, of the operating system's randomness.
    pub(crate) fn draw(authority: Pin) -> Result<Self, rustls::crypto::GetRandomFailed> {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        let provider = provider();
        provider.secure_random.fill(&mut id)?;
        provider.secure_random.fill(&mut secret)?;
        Ok(Self { id: TokenId(id), secret: Secret(secret), authority })
    }

    /// The text to give to the new machine. Not `Display`: it is not to slip into a log.
    pub fn reveal(&self) -> String {
        let payload = [&self.id.0[..], &self.secret.0, &self.authority.0].concat();
        let checksum = checksum(&payload);
        format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&[&payload[..], &checksum].concat()))
    }
}

impl FromStr for JoinToken {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let text = text.trim();
        // Not the text itself: it may be a secret with one letter missing.
        let form = || {
            let start: String = text.chars().take_while(char::is_ascii_alphanumeric).collect();
            let start: String = start.chars().take(PREFIX.len()).collect();
            let found = format!("{} characters that begin with `{start}`", text.chars().count());
            BadToken::Form { found }
        };
        let code = text.strip_prefix(PREFIX).ok_or_else(form)?;
        let bytes = BASE64URL_NOPAD.decode(code.as_bytes()).map_err(|error| match error.kind {
            _ if code.len() != TEXT_CHARS => form(),
            _ => BadToken::Checksum,
        })?;
        let (payload, sum) = bytes.split_at_checked(PAYLOAD_BYTES).ok_or_else(form)?;
        if sum.len() != CHECKSUM_BYTES {
            return Err(form());
        }
        if sum != checksum(payload) {
            return Err(BadToken::Checksum);
        }
        let (id, rest) = payload.split_first_chunk().ok_or_else(form)?;
        let (secret, rest) = rest.split_first_chunk().ok_or_else(form)?;
        let authority = rest.first_chunk().ok_or_else(form)?;
        Ok(Self { id: TokenId(*id), secret: Secret(*secret), authority: Pin(*authority) })
    }
}

fn checksum(payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = Sha256::new().chain_update(PREFIX).chain_update(payload).finalize();
    hash.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            id: TokenId(*b"12345678"),
            secret: Secret([0xA5; 32]),
            authority: Pin([0x0F; 32]),
        }
    }

    #[test]
    fn a_token_is_one_line_that_is_read_back() {
        let text = token().reveal();
        assert_eq!(text.len(), PREFIX.len() + TEXT_CHARS);
        assert_eq!(text.parse(), Ok(token()));
        assert_eq!(format!(" {text}\n").parse(), Ok(token()));
    }

    #[test]
    fn every_mistyped_letter_is_told() {
        let text = token().reveal();
        for at in PREFIX.len()..text.len() {
            for letter in ["A", "z", "_", "+", " "] {
                let mut typed = text.clone();
                typed.replace_range(at..=at, letter);
                if typed != text {
                    assert!(typed.parse::<JoinToken>().is_err(), "{typed}");
                }
            }
        }
    }

    #[test]
    fn a_cut_token_is_told_and_not_shown() {
        let text = token().reveal();
        for end in 0..text.len() {
            let error = text[..end].parse::<JoinToken>().unwrap_err().to_string();
            assert!(!error.contains(&text[..end]) || end <= PREFIX.len(), "{error}");
        }
        let error = "orcapackjoin2_abc".parse::<JoinToken>().unwrap_err();
        assert!(error.to_string().contains("found 17 characters that begin with `orcapackjoin2`"));
    }

    #[test]
    fn debugging_a_token_does_not_give_it_away() {
        assert!(format!("{:?}", token()).contains("Secret(..)"));
        assert!(!format!("{:?}", token()).contains("165"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = text.parse::<JoinToken>();
            let _ = format!("{PREFIX}{text}").parse::<JoinToken>();
        }
    }
}

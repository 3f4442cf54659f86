//! The tokens of an authority: how they are made, and how each is used up once.
//!
//! In one change of the books a token becomes used and its certificate is written down, and only
//! then is the certificate handed out. So a crash in between costs the token, and two certificates
//! for one token there never are. What can be wrong with a request is found before.

use std::time::Duration;

use data_encoding::HEXLOWER;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};

use crate::address::{NodeId, Role};
use crate::authority::{Authority, AuthorityError, VALIDITY, public_key};
use crate::authority_books::TokenRow;
use crate::identity_clock::now;
use crate::identity_files::FileError;
use crate::identity_names::role_of;
use crate::token::{JoinToken, Refusal, Secret, TokenId};

/// How long a token is good for, if nothing else is asked for.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

impl Authority {
    /// Makes a token that lets one stranger become this node, in this role.
    pub fn token(
        &self,
        node: &NodeId,
        role: Role,
        lifetime: Duration,
    ) -> Result<JoinToken, AuthorityError> {
        let token = JoinToken::draw(self.pin()).map_err(AuthorityError::Random)?;
        let now = now(&self.clock);
        let row = TokenRow {
            id: token.id.to_string(),
            secret_sha256: HEXLOWER.encode(&token.secret.hash()),
            node: node.to_string(),
            role: role.to_string(),
            expires_unix_sec: now.as_secs().saturating_add(lifetime.as_secs()),
            used_unix_sec: None,
        };
        self.store.change(|books| {
            books.prune(now);
            books.tokens.push(row);
            Ok::<_, AuthorityError>(token)
        })
    }

    /// Gives a certificate for a token, once.
    pub(crate) fn redeem(
        &self,
        id: TokenId,
        secret: &Secret,
        wanted: Option<&NodeId>,
        request: &CertificateSigningRequestDer<'_>,
    ) -> Result<CertificateDer<'static>, Redeem> {
        // A bad request must not cost a token either.
        let key = public_key(request).map_err(|_| Redeem::Refused(Refusal::BadRequest))?;
        let now = now(&self.clock).as_secs();
        self.store.change(|books| {
            let refused = |why| Err(Redeem::Refused(why));
            let id = id.to_string();
            let Some(row) = books.tokens.iter_mut().find(|row| row.id == id) else {
                return refused(Refusal::UnknownToken);
            };
            let hash = HEXLOWER.decode(row.secret_sha256.as_bytes()).unwrap_or_default();
            if !secret.has_hash(&hash) {
                // The same answer: ids are not to be found out by trying.
                return refused(Refusal::UnknownToken);
            }
            if row.used_unix_sec.is_some() {
                return refused(Refusal::UsedToken);
            }
            if row.expires_unix_sec <= now {
                return refused(Refusal::ExpiredToken);
            }
            let (Ok(node), Some(role)) = (row.node.parse::<NodeId>(), role_of(&row.role)) else {
                return refused(Refusal::UnknownToken);
            };
            if wanted.is_some_and(|wanted| *wanted != node) {
                return refused(Refusal::OtherNode { node });
            }
            row.used_unix_sec = Some(now);
            self.enter(books, &key, &node, role, VALIDITY).map_err(Redeem::Failed)
        })
    }
}

/// Why there is no certificate for a token.
#[derive(Debug)]
pub(crate) enum Redeem {
    Refused(Refusal),
    Failed(AuthorityError),
}

impl From<FileError> for Redeem {
    fn from(error: FileError) -> Self {
        Self::Failed(error.into())
    }
}

//! What an authority writes down: certificates that it issued, tokens that it gave out, and the
//! number of its revocation list. One JSON file, `authority.json`, replaced as a whole.
//!
//! The file is the truth, not the memory of a process: a token may be made at a command line while
//! a coordinator serves joins. Every change reads it, changes it and writes it under a lock among
//! all processes; so of two that redeem one token, one finds it used.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustls::pki_types::UnixTime;
use serde::{Deserialize, Serialize};

use crate::identity_certificate::Serial;
use crate::identity_files::{self as files, FileError, PRIVATE};

const BOOKS_FILE: &str = "authority.json";
const LOCK_FILE: &str = "authority.lock";

/// Used and expired tokens are kept for a while, so that who comes late is told what was wrong.
const TOKEN_KEPT_SEC: u64 = 30 * 24 * 3600;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Books {
    pub(crate) cluster: String,
    pub(crate) crl_number: u64,
    pub(crate) crl_at_unix_sec: u64,
    pub(crate) issued: Vec<IssuedRow>,
    pub(crate) tokens: Vec<TokenRow>,
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuedRow {
    pub serial: Serial,
    pub node: String,
    pub role: String,
    pub not_after_unix_sec: u64,
    pub revoked_unix_sec: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRow {
    pub(crate) id: String,
    pub(crate) secret_sha256: String,
    pub(crate) node: String,
    pub(crate) role: String,
    pub(crate) expires_unix_sec: u64,
    pub(crate) used_unix_sec: Option<u64>,
}

impl Books {
    pub(crate) fn new(cluster: &str, now: UnixTime) -> Self {
        Self {
            cluster: cluster.to_owned(),
            crl_number: 1,
            crl_at_unix_sec: now.as_secs(),
            issued: Vec::new(),
            tokens: Vec::new(),
        }
    }

    /// Forgets what nobody asks for any more. A revoked certificate stays: it is in the list under
    /// this number.
    pub(crate) fn prune(&mut self, now: UnixTime) {
        let now = now.as_secs();
        self.issued.retain(|row| row.revoked_unix_sec.is_some() || row.not_after_unix_sec >= now);
        self.tokens.retain(|row| row.expires_unix_sec.saturating_add(TOKEN_KEPT_SEC) >= now);
    }

    /// With a new list, revoked certificates that have expired need not be in it.
    pub(crate) fn prune_revoked(&mut self, now: UnixTime) {
        self.issued.retain(|row| row.not_after_unix_sec >= now.as_secs());
    }
}

pub(crate) enum Store {
    Folder(PathBuf),
    /// For simulations and tests.
    Memory(Mutex<Books>),
}

impl Store {
    /// Changes the books. They are on disk when it returns `Ok`; after an `Err` they are as before.
    pub(crate) fn change<T, E: From<FileError>>(
        &self,
        work: impl FnOnce(&mut Books) -> Result<T, E>,
    ) -> Result<T, E> {
        match self {
            Self::Memory(books) => {
                let mut books = books.lock().unwrap_or_else(PoisonError::into_inner);
                let mut changed = books.clone();
                let done = work(&mut changed)?;
                *books = changed;
                Ok(done)
            }
            Self::Folder(folder) => {
                let _lock = files::lock(&folder.join(LOCK_FILE))?;
                let mut books = self.read()?;
                let done = work(&mut books)?;
                write(&folder.join(BOOKS_FILE), &books)?;
                Ok(done)
            }
        }
    }

    /// Does something with what stands in them, while nobody changes it.
    pub(crate) fn look<T, E: From<FileError>>(
        &self,
        work: impl FnOnce(&Books) -> Result<T, E>,
    ) -> Result<T, E> {
        let _lock = match self {
            Self::Memory(_) => None,
            Self::Folder(folder) => Some(files::lock(&folder.join(LOCK_FILE))?),
        };
        work(&self.read()?)
    }

    /// What stands in them now.
    pub(crate) fn read(&self) -> Result<Books, FileError> {
        match self {
            Self::Memory(books) => Ok(books.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            Self::Folder(folder) => {
                let path = folder.join(BOOKS_FILE);
                let bytes = files::read(&path)?;
                serde_json::from_slice(&bytes)
                    .map_err(|error| FileError::content(&path, "an authority's books", error))
            }
        }
    }

    /// Begins them, in a folder that has none.
    pub(crate) fn create(folder: PathBuf, books: &Books) -> Result<Self, FileError> {
        write(&folder.join(BOOKS_FILE), books)?;
        Ok(Self::Folder(folder))
    }
}

fn write(path: &std::path::Path, books: &Books) -> Result<(), FileError> {
    let text = serde_json::to_string_pretty(books)
        .map_err(|error| FileError::content(path, "books that can be written", error))?;
    files::replace(path, text.as_bytes(), PRIVATE)
}

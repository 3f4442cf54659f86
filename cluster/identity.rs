//! Who this node is, and how it judges its peers: the [`Credentials`] of its transports.
//!
//! An [`Identity`] is read from a folder ([`Identity::load`]) or made of what an authority has just
//! issued ([`Identity::in_memory`], for simulations and tests). Transports ask it for TLS
//! configurations at every handshake. So a new certificate ([`Identity::replace`]), or a newer
//! revocation list ([`Identity::set_crl`]), holds from the next handshake on, and connections that
//! are there go on; whether one of those has to end is [`Credentials::revoked`]'s answer, and
//! [`Identity::crl_changes`] says when to ask for it.
//!
//! Connections outlive the validity of certificates: a certificate is looked at when one is made.
//! Who renews its own in time ([`Identity::renew_at`]) never notices.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName,
    UnixTime,
};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::sync::watch;

use crate::address::{NodeId, PeerIdentity};
use crate::credentials::Credentials;
use crate::identity_certificate::{Certificate, Revocations, Serial, roots, verify_issued};
use crate::identity_clock::{Clock, now};
use crate::identity_error::{IdentityError, in_file};
use crate::identity_files::{FileError, of_pem};
use crate::identity_folder::{AUTHORITY_FILE, Bundle, Folder, REVOCATIONS_FILE};
use crate::identity_names::{Names, server_name};
use crate::identity_tls::{self as tls, Material, Strangers};
use crate::link::{LinkError, Purpose};

pub struct Identity {
    names: Names,
    authority: CertificateDer<'static>,
    roots: Arc<RootCertStore>,
    clock: Clock,
    strangers: Strangers,
    /// `None`: it lives in memory alone.
    folder: Option<Folder>,
    /// What is in use. Who changes it holds `change` from reading to writing.
    current: RwLock<Arc<State>>,
    change: Mutex<()>,
    crl_number: watch::Sender<u64>,
}

/// What changes with a new certificate or list. Made whole, then put in place.
struct State {
    certificate: Certificate,
    own: Arc<CertifiedKey>,
    revocations: Option<Revocations>,
    server: Arc<ServerConfig>,
    clients: [Arc<ClientConfig>; Purpose::COUNT],
}

impl Identity {
    /// Reads the identity in a folder. What is wrong in it is an error that names the file: a key
    /// that others may read, a certificate that is not valid now, and so on.
    pub fn load(folder: &Path, clock: Clock, strangers: Strangers) -> Result<Self, IdentityError> {
        let folder = Folder::new(folder);
        let bundle = folder.read()?;
        let mut identity =
            Self::in_memory(bundle, clock, strangers).map_err(|error| in_file(&folder, error))?;
        identity.folder = Some(folder);
        Ok(identity)
    }

    pub fn in_memory(
        bundle: Bundle,
        clock: Clock,
        strangers: Strangers,
    ) -> Result<Self, IdentityError> {
        let Bundle { key, certificate, authority, revocations } = bundle;
        let roots = Arc::new(roots(&authority).map_err(IdentityError::Authority)?);
        let revocations = revocations.map(|list| Revocations::read(&list, &authority));
        let revocations = revocations.transpose().map_err(IdentityError::Revocations)?;
        let checked = verify_issued(&certificate, &authority, now(&clock));
        let checked = checked.map_err(IdentityError::Certificate)?;
        let names = checked.names.clone();
        let number = revocations.as_ref().map_or(0, |list| list.number);
        let own = own_key(key, certificate, &authority)?;
        let material = Material { own: &own, roots: &roots, clock: &clock, revocations: None };
        let state = State::new(material, strangers, checked, revocations)?;
        Ok(Self {
            names,
            authority,
            roots,
            clock,
            strangers,
            folder: None,
            current: RwLock::new(Arc::new(state)),
            change: Mutex::new(()),
            crl_number: watch::Sender::new(number),
        })
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The certificate of the authority that this node trusts.
    pub fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    pub fn serial(&self) -> Serial {
        self.state().certificate.serial.clone()
    }

    pub fn expires_at(&self) -> UnixTime {
        self.state().certificate.not_after
    }

    /// When to ask for the next certificate: with a third of this one's time left to succeed in.
    pub fn renew_at(&self) -> UnixTime {
        let state = self.state();
        let (from, to) = (state.certificate.not_before, state.certificate.not_after);
        let left = to.as_secs().saturating_sub(from.as_secs()) / 3;
        UnixTime::since_unix_epoch(Duration::from_secs(to.as_secs().saturating_sub(left)))
    }

    /// Takes another certificate, with its key, into use: of the same node, role and cluster, and
    /// of the same authority. It is on disk before it is used.
    pub fn replace(
        &self,
        key: PrivatePkcs8KeyDer<'static>,
        certificate: CertificateDer<'static>,
    ) -> Result<(), IdentityError> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.next(key.clone_key(), &certificate, self.state().revocations.clone())?;
        if let Some(folder) = &self.folder {
            folder.replace(&key, &certificate)?;
        }
        self.put(next);
        Ok(())
    }

    /// Reads the folder again, and uses what is there now. If that is no good, all stays as it is.
    pub fn reload(&self) -> Result<(), IdentityError> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(folder) = &self.folder else { return Ok(()) };
        let Bundle { key, certificate, authority, revocations } = folder.read()?;
        if authority != self.authority {
            let path = folder.file(AUTHORITY_FILE);
            let expected = "the authority that was there at the start";
            return Err(FileError::content(&path, expected, "another").into());
        }
        let next = || {
            let list = revocations.map(|list| Revocations::read(&list, &authority)).transpose();
            let list = list.map_err(IdentityError::Revocations)?;
            self.newer(list.as_ref().map_or(0, |list| list.number))?;
            self.next(key, &certificate, list)
        };
        self.put(next().map_err(|error| in_file(folder, error))?);
        Ok(())
    }

    /// Takes a revocation list into use: of this cluster's authority, and not older than the one
    /// held. It is on disk before it is used. `false` if it is the one held.
    pub fn set_crl(&self, pem: &[u8]) -> Result<bool, IdentityError> {
        let list = of_pem(Path::new(REVOCATIONS_FILE), pem, "a revocation list")?;
        self.set_crl_der(&list)
    }

    pub fn set_crl_der(
        &self,
        list: &CertificateRevocationListDer<'_>,
    ) -> Result<bool, IdentityError> {
        let list = Revocations::read(list, &self.authority).map_err(IdentityError::Revocations)?;
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.newer(list.number)? {
            return Ok(false);
        }
        let state = self.state();
        let material = self.material(&state.own);
        let written = list.der.clone();
        let certificate = state.certificate.clone();
        let next = State::new(material, self.strangers, certificate, Some(list))?;
        if let Some(folder) = &self.folder {
            folder.put_revocations(&written)?;
        }
        self.put(next);
        Ok(true)
    }

    /// The number of the revocation list in use, 0 without one, and each later one.
    pub fn crl_changes(&self) -> watch::Receiver<u64> {
        self.crl_number.subscribe()
    }

    /// The revocation list in use, to be given on to peers.
    pub fn crl(&self) -> Option<CertificateRevocationListDer<'static>> {
        self.state().revocations.as_ref().map(|list| list.der.clone())
    }

    pub fn is_revoked(&self, serial: &Serial) -> bool {
        self.state().revocations.as_ref().is_some_and(|list| list.serials.contains(serial))
    }

    fn newer(&self, found: u64) -> Result<bool, IdentityError> {
        let held = *self.crl_number.borrow();
        if found < held {
            return Err(IdentityError::OlderRevocations { held, found });
        }
        Ok(found > held)
    }

    fn next(
        &self,
        key: PrivatePkcs8KeyDer<'static>,
        certificate: &CertificateDer<'static>,
        revocations: Option<Revocations>,
    ) -> Result<State, IdentityError> {
        let checked = verify_issued(certificate, &self.authority, now(&self.clock));
        let checked = checked.map_err(IdentityError::Certificate)?;
        if checked.names != self.names {
            let expected = self.names.clone();
            return Err(IdentityError::OtherNames { expected, found: checked.names });
        }
        let own = own_key(key, certificate.clone(), &self.authority)?;
        Ok(State::new(self.material(&own), self.strangers, checked, revocations)?)
    }

    fn material<'m>(&'m self, own: &'m Arc<CertifiedKey>) -> Material<'m> {
        Material { own, roots: &self.roots, clock: &self.clock, revocations: None }
    }

    fn state(&self) -> Arc<State> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, state: State) {
        let number = state.revocations.as_ref().map_or(0, |list| list.number);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
        // After the list is in use, or who hears of it would be told of the one before.
        self.crl_number.send_if_modified(|held| std::mem::replace(held, number) != number);
    }
}

impl State {
    fn new(
        material: Material<'_>,
        strangers: Strangers,
        certificate: Certificate,
        revocations: Option<Revocations>,
    ) -> Result<Self, rustls::Error> {
        let list = revocations.as_ref().map(|list| &list.der);
        let material = Material { revocations: list, ..material };
        let client = |purpose| tls::client_config(&material, purpose);
        let [control, data, call, join, gradients] = Purpose::ALL.map(client);
        let (server, own) = (tls::server_config(&material, strangers)?, material.own.clone());
        let clients = [control?, data?, call?, join?, gradients?];
        Ok(Self { certificate, own, server, clients, revocations })
    }
}

impl Credentials for Identity {
    fn server_config(&self) -> Arc<ServerConfig> {
        self.state().server.clone()
    }

    fn client_config(&self, purpose: Purpose) -> Arc<ClientConfig> {
        let state = self.state();
        let [control, data, call, join, gradients] = &state.clients;
        match purpose {
            Purpose::Control => control.clone(),
            Purpose::Data => data.clone(),
            Purpose::Call => call.clone(),
            Purpose::Join => join.clone(),
            Purpose::Gradients => gradients.clone(),
        }
    }

    fn server_name(&self, node: &NodeId) -> ServerName<'static> {
        server_name(&self.names.cluster, node)
    }

    fn peer_of(&self, chain: &[CertificateDer<'_>]) -> Result<PeerIdentity, LinkError> {
        let untrusted = |why: String| LinkError::Untrusted(why);
        let first = chain.first().ok_or_else(|| untrusted("it has no certificate".to_owned()))?;
        let names = Certificate::read(first).map_err(|error| untrusted(error.to_string()))?.names;
        if names.cluster != self.names.cluster {
            let (expected, found) = (&self.names.cluster, &names.cluster);
            return Err(untrusted(format!("expected cluster `{expected}`, found `{found}`")));
        }
        Ok(names.peer())
    }

    fn revoked(&self, chain: &[CertificateDer<'_>]) -> bool {
        let certificate = chain.first().map(Certificate::read);
        matches!(certificate, Some(Ok(certificate)) if self.is_revoked(&certificate.serial))
    }
}

/// The authority's certificate goes along: who joins knows its key's hash, and not the certificate.
fn own_key(
    key: PrivatePkcs8KeyDer<'static>,
    certificate: CertificateDer<'static>,
    authority: &CertificateDer<'static>,
) -> Result<Arc<CertifiedKey>, IdentityError> {
    let chain = vec![certificate, authority.clone()];
    tls::own_key(chain, PrivateKeyDer::Pkcs8(key)).map_err(IdentityError::Key)
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;

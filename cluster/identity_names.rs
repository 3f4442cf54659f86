//! The names in a certificate: which node of which cluster it speaks for, and in which role.
//!
//! They stand in the subject alternative name, and nowhere else: a DNS name, which TLS compares
//! with the node that was dialled, and a URI, which has the role too. Both must be there, once, and
//! must agree: who reads only one of them then cannot be told another story than who reads both.

use std::fmt;
use std::str::FromStr;

use rcgen::SanType;
use rcgen::string::Ia5String;
use rustls::pki_types::ServerName;
use x509_parser::extensions::GeneralName;

use crate::address::{BadNodeId, NodeId, PeerIdentity, Role};

/// Reserved for private use, so that no certificate of ours is ever one for a public name.
const DOMAIN: &str = "orcapack.internal";

/// A cluster's name: a DNS label, like that of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(NodeId);

impl ClusterName {
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for ClusterName {
    type Err = BadNodeId;

    fn from_str(text: &str) -> Result<Self, BadNodeId> {
        text.parse().map(Self)
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pub cluster: ClusterName,
    pub node: NodeId,
    pub role: Role,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNames {
    #[error(
        "expected the names `NODE.CLUSTER.{DOMAIN}` and `orcapack://CLUSTER/ROLE/NODE`, found {0}"
    )]
    Form(String),
    #[error("expected a role among coordinator, worker and operator, found {0}")]
    Role(String),
}

impl Names {
    pub fn peer(&self) -> PeerIdentity {
        PeerIdentity { node: self.node.clone(), role: self.role }
    }

    /// The alternative names of this node's certificate.
    pub(crate) fn to_sans(&self) -> Result<Vec<SanType>, rcgen::Error> {
        let dns = Ia5String::try_from(dns(&self.cluster, &self.node))?;
        let uri = Ia5String::try_from(self.uri())?;
        Ok(vec![SanType::DnsName(dns), SanType::URI(uri)])
    }

    pub(crate) fn of_sans(sans: &[GeneralName<'_>]) -> Result<Self, BadNames> {
        let bad = || {
            let found: Vec<String> = sans.iter().take(4).map(shown).collect();
            BadNames::Form(if found.is_empty() { "none".to_owned() } else { found.join(", ") })
        };
        let (GeneralName::DNSName(dns_found), GeneralName::URI(uri)) = (match sans {
            [a, b @ GeneralName::URI(_)] => (a, b),
            [b @ GeneralName::URI(_), a] => (a, b),
            _ => return Err(bad()),
        }) else {
            return Err(bad());
        };
        let path = uri.strip_prefix("orcapack://").ok_or_else(bad)?;
        let parts: Vec<&str> = path.splitn(4, '/').collect();
        let [cluster, role, node] = parts[..] else { return Err(bad()) };
        let cluster: ClusterName = cluster.parse().map_err(|_| bad())?;
        let node: NodeId = node.parse().map_err(|_| bad())?;
        if *dns_found != dns(&cluster, &node) {
            return Err(bad());
        }
        let role = role_of(role).ok_or_else(|| BadNames::Role(shown(&GeneralName::URI(role))))?;
        Ok(Self { cluster, node, role })
    }

    fn uri(&self) -> String {
        format!("orcapack://{}/{}/{}", self.cluster, self.role, self.node)
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of {}", self.role, self.node, self.cluster)
    }
}

pub(crate) fn role_of(text: &str) -> Option<Role> {
    Role::ALL.into_iter().find(|role| role.as_str() == text)
}

/// The name that TLS compares with a node's certificate.
pub(crate) fn server_name(cluster: &ClusterName, node: &NodeId) -> ServerName<'static> {
    // Two labels of at most 63 bytes and the domain are a DNS name. Were they not, the answer is a
    // name that no certificate has.
    let nowhere = std::net::Ipv4Addr::UNSPECIFIED;
    ServerName::try_from(dns(cluster, node)).unwrap_or(ServerName::from(nowhere))
}

fn dns(cluster: &ClusterName, node: &NodeId) -> String {
    format!("{node}.{cluster}.{DOMAIN}")
}

/// For a message: it may be anything, and of any length.
fn shown(name: &GeneralName<'_>) -> String {
    let text = match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) => text,
        _ => return "a name of another kind".to_owned(),
    };
    let plain: String = text.chars().take(120).flat_map(char::escape_debug).collect();
    format!("`{plain}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sans: &[GeneralName<'_>]) -> Result<Names, String> {
        Names::of_sans(sans).map_err(|error| error.to_string())
    }

    #[test]
    fn both_names_are_there_once_and_agree() {
        let dns = GeneralName::DNSName("n1.lab.orcapack.internal");
        let uri = GeneralName::URI("orcapack://lab/worker/n1");
        let expected = Names {
            cluster: "lab".parse().unwrap(),
            node: "n1".parse().unwrap(),
            role: Role::Worker,
        };
        assert_eq!(names(&[dns.clone(), uri.clone()]), Ok(expected.clone()));
        assert_eq!(names(&[uri.clone(), dns.clone()]), Ok(expected));
        for sans in [
            vec![],
            vec![dns.clone()],
            vec![uri.clone()],
            vec![dns.clone(), dns.clone()],
            vec![uri.clone(), uri.clone()],
            vec![dns.clone(), uri.clone(), GeneralName::DNSName("n2.lab.orcapack.internal")],
            vec![GeneralName::DNSName("n2.lab.orcapack.internal"), uri.clone()],
            vec![GeneralName::DNSName("n1.other.orcapack.internal"), uri.clone()],
            vec![GeneralName::DNSName("n1.lab.orcapack.internal."), uri.clone()],
            vec![GeneralName::DNSName("*.lab.orcapack.internal"), uri.clone()],
            vec![GeneralName::IPAddress(&[127, 0, 0, 1]), uri],
        ] {
            assert!(names(&sans).unwrap_err().starts_with("expected the names"), "{sans:?}");
        }
        for uri in [
            "https://lab/worker/n1",
            "orcapack://lab/worker",
            "orcapack://lab/worker/n1/",
            "orcapack://lab/worker/n1/x",
            "orcapack://lab//n1",
            "orcapack:///worker/n1",
            "orcapack://LAB/worker/n1",
            "orcapack://lab/root/n1",
            "orcapack://lab/Worker/n1",
        ] {
            assert!(names(&[dns.clone(), GeneralName::URI(uri)]).is_err(), "{uri}");
        }
    }

    #[test]
    fn what_a_certificate_says_is_shown_in_one_bounded_line() {
        let long = format!("a\n\u{1b}[2J{}", "x".repeat(5000));
        let error = names(&[GeneralName::DNSName(&long), GeneralName::URI("b")]).unwrap_err();
        assert!(error.len() < 400 && !error.contains(['\n', '\u{1b}']), "{error}");
    }

    #[test]
    fn the_longest_names_are_a_server_name() {
        let label = "x".repeat(63);
        let name = server_name(&label.parse().unwrap(), &label.parse().unwrap());
        assert_eq!(name.to_str(), format!("{label}.{label}.orcapack.internal"));
    }
}

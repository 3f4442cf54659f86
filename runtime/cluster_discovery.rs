//! Where nodes are found, and how they are reached: the pods of a DNS name, the hosts of a Slurm
//! job, and addresses that are looked up anew whenever a peer is dialled.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use orcapack_cluster::address::NodeId;

use crate::cluster_hostlist::{self, is_host, shown};
use crate::secrets::Variables;

/// Names the hosts of a job, where a process belongs to one.
pub const JOB_HOSTS: &str = "SLURM_JOB_NODELIST";
/// A name that nobody answers for must not keep a peer waiting.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// What finds nodes beside the tables `[nodes.ID]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Nothing: the tables name them all.
    Static,
    /// The pods of a Kubernetes `StatefulSet` behind a headless service: `PODS-0` to
    /// `PODS-(replicas - 1)`, each at `POD.NAME`. One that is not there is a peer that does not
    /// answer, so `replicas` may be more than run now.
    Dns { name: String, pods: String, replicas: u32 },
    /// The hosts of the Slurm job that this process belongs to, by [`JOB_HOSTS`].
    Slurm,
}

/// A node that was found, by its id, and the host that it is on.
pub type Found = (NodeId, String);

impl Discovery {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Dns { .. } => "dns",
            Self::Slurm => "slurm",
        }
    }

    /// Which nodes there are. Outside of a Slurm job, none.
    ///
    /// # Errors
    /// What was found that cannot be nodes.
    pub fn find(&self, variables: Variables) -> Result<Vec<Found>, String> {
        match self {
            Self::Static => Ok(Vec::new()),
            Self::Dns { name, pods, replicas } => (0..*replicas)
                .map(|pod| {
                    let pod = format!("{pods}-{pod}");
                    let id: NodeId = pod.parse().map_err(|_| format!("pods such as `{pod}`"))?;
                    Ok((id, format!("{pod}.{name}")))
                })
                .collect(),
            Self::Slurm => match variables(JOB_HOSTS).filter(|hosts| !hosts.is_empty()) {
                None => Ok(Vec::new()),
                Some(hosts) => cluster_hostlist::expand(&hosts)?
                    .into_iter()
                    .map(|host| {
                        let id = id_of_host(&host).ok_or_else(|| format!("host `{host}`"))?;
                        Ok((id, host))
                    })
                    .collect(),
            },
        }
    }
}

/// What a host is called as a node: the first label of its name, in small letters, with `-` for
/// `_`.
pub fn id_of_host(host: &str) -> Option<NodeId> {
    let label = host.split('.').next().unwrap_or(host);
    label.to_ascii_lowercase().replace('_', "-").parse().ok()
}

/// This machine's own name; empty where the kernel tells none.
pub fn host_name() -> String {
    let name = nix::unistd::gethostname().ok();
    name.and_then(|name| name.into_string().ok()).unwrap_or_default()
}

/// Where a peer is reached: a host by name or IP, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    pub host: NetHost,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetHost {
    Ip(IpAddr),
    /// Looked up anew for every dial: a pod that is started again has another IP.
    Name(String),
}

pub const ADDRESS: &str = "a host's name or IP that peers can reach, with or without :PORT";

impl HostPort {
    /// `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`, also an IPv6 address alone; `port` where
    /// none is said.
    pub fn parse(text: &str, port: u16) -> Option<Self> {
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (host, said) = match bracketed {
            Some((ip, after)) => {
                let ip = IpAddr::V6(ip.parse().ok()?);
                let said = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
                (NetHost::Ip(ip), said)
            }
            None => match (text.parse(), text.split_once(':')) {
                (Ok(ip), _) => (NetHost::Ip(ip), None),
                (Err(_), None) => (NetHost::parse(text)?, None),
                (Err(_), Some((host, port))) => (NetHost::parse(host)?, Some(port)),
            },
        };
        let digits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
        let port = match said {
            None => port,
            Some(said) => said.parse().ok().filter(|port| *port > 0 && digits(&said))?,
        };
        let reachable = match &host {
            NetHost::Ip(ip) => !ip.is_unspecified() && !ip.is_multicast(),
            NetHost::Name(_) => true,
        };
        reachable.then_some(Self { host, port })
    }

    /// Where a node that is reached here listens, if nothing else is said: at all of its addresses.
    pub fn listen(&self) -> SocketAddr {
        let any: IpAddr = match &self.host {
            NetHost::Ip(IpAddr::V6(_)) => std::net::Ipv6Addr::UNSPECIFIED.into(),
            NetHost::Ip(IpAddr::V4(_)) | NetHost::Name(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        };
        SocketAddr::new(any, self.port)
    }

    /// Asks for the address now; `from` is where the asker listens, or would: from an IPv4 socket,
    /// no IPv6 address can be reached.
    ///
    /// # Errors
    /// In words for the user: no answer in time, no such name, or none that can be reached.
    pub async fn resolve(&self, from: IpAddr) -> Result<SocketAddr, String> {
        let name = match &self.host {
            NetHost::Ip(ip) => return Ok(SocketAddr::new(*ip, self.port)),
            NetHost::Name(name) => name.as_str(),
        };
        let lookup = tokio::net::lookup_host((name, self.port));
        let addresses: io::Result<Vec<_>> = match tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await
        {
            Ok(addresses) => addresses.map(Iterator::collect),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let addresses = addresses.map_err(|error| format!("looking up `{name}`: {error}"))?;
        addresses
            .into_iter()
            .find(|address| from.is_ipv6() || address.is_ipv4())
            .ok_or_else(|| format!("looking up `{name}`: no address that can be reached from here"))
    }
}

impl NetHost {
    /// Four numbers are an IP or nothing: `10.0.0.256` is no name.
    fn parse(text: &str) -> Option<Self> {
        let last = text.rsplit('.').next().unwrap_or(text);
        match text.parse() {
            Ok(ip) => Some(Self::Ip(IpAddr::V4(ip))),
            Err(_) if last.bytes().all(|byte| byte.is_ascii_digit()) => None,
            Err(_) => is_host(text).then(|| Self::Name(text.to_ascii_lowercase())),
        }
    }
}

impl fmt::Display for NetHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A node as it is given to `cluster init`: `ID=ADDRESS[:PORT],SLOTS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    pub id: NodeId,
    /// With the port only where one was said.
    pub address: String,
    pub slots: u32,
}

impl FromStr for NodeSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(id, rest)| {
            let (address, slots) = rest.rsplit_once(',')?;
            Some((id, address, slots))
        });
        let Some((id, address, slots)) = parts else {
            return Err("expected ID=ADDRESS:PORT,SLOTS, such as n1=10.0.0.1:7400,64".to_owned());
        };
        let id = id
            .parse()
            .map_err(|error: orcapack_cluster::address::BadNodeId| format!("the id: {error}"))?;
        if HostPort::parse(address, 1).is_none() {
            return Err(format!("the address: expected {ADDRESS}, found `{}`", shown(address)));
        }
        let range = crate::cluster_config::SLOTS;
        let slots = slots.parse().ok().filter(|slots: &u32| range.contains(&u64::from(*slots)));
        let slots = slots.ok_or_else(|| {
            format!("the slots: expected an integer from {} to {}", range.start(), range.end())
        })?;
        Ok(Self { id, address: address.to_owned(), slots })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_with_or_without_its_port() {
        let table = [
            ("10.0.0.1", Some("10.0.0.1:7400")),
            ("10.0.0.1:7500", Some("10.0.0.1:7500")),
            ("fd00::1", Some("[fd00::1]:7400")),
            ("[fd00::1]", Some("[fd00::1]:7400")),
            ("[fd00::1]:7500", Some("[fd00::1]:7500")),
            ("GPU-01.lab", Some("gpu-01.lab:7400")),
            ("gpu_01:7500", Some("gpu_01:7500")),
            ("", None),
            (":7500", None),
            ("0.0.0.0", None),
            ("[::]:7400", None),
            ("224.0.0.1", None),
            ("10.0.0.256", None),
            ("10.0.0.1:0", None),
            ("10.0.0.1:+7", None),
            ("10.0.0.1:65536", None),
            ("[fd00::1]7500", None),
            ("[10.0.0.1]:7500", None),
            ("http://gpu-01", None),
            ("gpu 01", None),
        ];
        for (text, parsed) in table {
            let found = HostPort::parse(text, 7400).map(|address| address.to_string());
            assert_eq!(found.as_deref(), parsed, "{text}");
        }
    }

    #[test]
    fn a_node_listens_where_it_is_reached() {
        let listen = |text| HostPort::parse(text, 7400).map(|at| at.listen().to_string());
        assert_eq!(listen("10.0.0.1").as_deref(), Some("0.0.0.0:7400"));
        assert_eq!(listen("gpu-01:7500").as_deref(), Some("0.0.0.0:7500"));
        assert_eq!(listen("fd00::1").as_deref(), Some("[::]:7400"));
    }

    #[test]
    fn a_host_has_its_name_as_a_node() {
        let id = |host| id_of_host(host).map(|id| id.to_string());
        assert_eq!(id("GPU_07.lab.example").as_deref(), Some("gpu-07"));
        assert_eq!(id("n1").as_deref(), Some("n1"));
        assert_eq!(id(".lab"), None);
        assert_eq!(id(""), None);
    }

    #[test]
    fn a_node_for_a_new_cluster_is_written_in_one_word() {
        let spec: NodeSpec = "n1=[fd00::1]:7500,64".parse().unwrap();
        assert_eq!(
            (spec.id.as_str(), spec.address.as_str(), spec.slots),
            ("n1", "[fd00::1]:7500", 64)
        );
        for (text, fault) in [
            ("n1", "expected ID=ADDRESS:PORT,SLOTS"),
            ("n1=10.0.0.1", "expected ID=ADDRESS:PORT,SLOTS"),
            ("N1=10.0.0.1,4", "the id: expected 1 to 63 of a-z"),
            ("n1=a b,4", "the address: expected a host's name or IP"),
            ("n1=10.0.0.1,0", "the slots: expected an integer from 1 to 4096"),
        ] {
            let error = text.parse::<NodeSpec>().unwrap_err();
            assert!(error.starts_with(fault), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_an_ip_is_not() {
        let v4: IpAddr = "0.0.0.0".parse().unwrap();
        let of = |text| HostPort::parse(text, 7400).unwrap();
        assert_eq!(of("10.0.0.1").resolve(v4).await, Ok("10.0.0.1:7400".parse().unwrap()));
        assert_eq!(of("localhost").resolve(v4).await, Ok("127.0.0.1:7400".parse().unwrap()));
        let error = of("none.invalid").resolve(v4).await.unwrap_err();
        assert!(error.starts_with("looking up `none.invalid`: "), "{error}");
    }
}

//! Machines in a network of a test's own: network namespaces on a bridge that is in one too. No
//! interface, address or rule of this machine's own is touched, and dropping it leaves nothing.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Of each machine, in its own namespace.
const INTERFACE: &str = "eth0";
/// Nobody's: what is sent there is lost without a word.
const NOBODY: &str = "02:00:00:00:ff:ff";

/// How a machine is cut off from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Its cable is pulled.
    Off,
    /// What it says is lost.
    Mute,
    /// What is said to it is lost.
    Deaf,
}

/// The namespaces. Dropped, they are removed.
pub struct Network {
    /// Of no other network on this machine.
    name: String,
    hosts: Vec<String>,
}

impl Network {
    /// With a machine for each of these names. `None`, and a line that says why, where none can be
    /// made.
    pub fn of(hosts: &[&str]) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_orphans();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("orcapack-{}-{number}", std::process::id());
        let network = Self { name, hosts: hosts.iter().map(|&host| host.to_owned()).collect() };
        match network.make() {
            Ok(()) => Some(network),
            Err(why) => {
                eprintln!("skipped: no network namespaces can be made here: {why}");
                None
            }
        }
    }

    fn make(&self) -> Result<(), String> {
        let bridge = self.space("bridge");
        let mut first = vec![format!("netns add {bridge}")];
        first.extend(self.hosts.iter().map(|host| format!("netns add {}", self.space(host))));
        batch(None, &first)?;
        let mut lines = vec!["link add br0 type bridge".to_owned(), "link set br0 up".to_owned()];
        for (number, host) in self.hosts.iter().enumerate() {
            let (port, space) = (port(number), self.space(host));
            lines.push(format!("link add {port} type veth peer name {INTERFACE} netns {space}"));
            lines.push(format!("link set {port} master br0"));
            lines.push(format!("link set {port} up"));
        }
        batch(Some(&bridge), &lines)?;
        for host in &self.hosts {
            let address = format!("address add {}/24 dev {INTERFACE}", self.address(host));
            let up = [INTERFACE, "lo"].map(|interface| format!("link set {interface} up"));
            batch(Some(&self.space(host)), &[&[address], &up[..]].concat())?;
        }
        Ok(())
    }

    /// A program on one of the machines. Its process is the program's, and nothing but the network
    /// is another than here.
    pub fn command(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.space(host))).arg(program);
        command
    }

    pub fn address(&self, host: &str) -> String {
        format!("10.77.0.{}", self.number(host) + 1)
    }

    pub fn cut(&self, host: &str, cut: Cut) {
        match cut {
            Cut::Off => self.link(host, "down"),
            Cut::Mute => self.others(host).for_each(|other| self.lose(host, other)),
            Cut::Deaf => self.others(host).for_each(|other| self.lose(other, host)),
        }
    }

    /// Undoes [`Self::cut`].
    pub fn heal(&self, host: &str, cut: Cut) {
        match cut {
            Cut::Off => self.link(host, "up"),
            Cut::Mute => self.others(host).for_each(|other| self.find(host, other)),
            Cut::Deaf => self.others(host).for_each(|other| self.find(other, host)),
        }
    }

    fn link(&self, host: &str, state: &str) {
        let line = format!("link set {} {state}", port(self.number(host)));
        batch(Some(&self.space("bridge")), &[line]).unwrap();
    }

    /// From now on what one machine sends to another is lost.
    fn lose(&self, from: &str, to: &str) {
        let to = self.address(to);
        let line = format!("neigh replace {to} lladdr {NOBODY} nud permanent dev {INTERFACE}");
        batch(Some(&self.space(from)), &[line]).unwrap();
    }

    fn find(&self, from: &str, to: &str) {
        let line = format!("neigh del {} dev {INTERFACE}", self.address(to));
        batch(Some(&self.space(from)), &[line]).unwrap();
    }

    fn others<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a str> {
        self.hosts.iter().map(String::as_str).filter(move |other| *other != host)
    }

    fn number(&self, host: &str) -> usize {
        self.hosts.iter().position(|known| known == host).expect("a machine of this network")
    }

    fn space(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in ["bridge"].into_iter().chain(self.hosts.iter().map(String::as_str)) {
            // One that was never made cannot be removed.
            let _ = batch(None, &[format!("netns del {}", self.space(host))]);
        }
    }
}

/// What tests left that were killed.
fn remove_orphans() {
    for space in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = space.file_name().to_string_lossy().into_owned();
        let maker = name.strip_prefix("orcapack-").and_then(|name| name.split('-').next());
        if maker.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another test may do the same.
            let _ = batch(None, &[format!("netns del {name}")]);
        }
    }
}

/// On the bridge, of the machine of that number.
fn port(number: usize) -> String {
    format!("port{number}")
}

/// Commands of `ip`, in a namespace.
fn batch(space: Option<&str>, lines: &[String]) -> Result<(), String> {
    let mut ip = Command::new("ip");
    if let Some(space) = space {
        ip.args(["-n", space]);
    }
    let piped = ip.args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().map_err(|error| format!("ip: {error}"))?;
    let mut input = child.stdin.take().expect("it is piped");
    let written = lines.iter().try_for_each(|line| writeln!(input, "{line}"));
    drop(input);
    let output = child.wait_with_output().map_err(|error| format!("ip: {error}"))?;
    match (output.status.success(), written) {
        (true, Ok(())) => Ok(()),
        _ => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

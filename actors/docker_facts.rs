//! What a Docker engine can do and has room for, as `orcapack doctor` shows it.

use bollard::models::SystemInfo;
use nix::sys::statvfs::statvfs;

use crate::docker_container::OURS;
use crate::docker_engine::{About, CALL_LIMIT, Engine, within};
use crate::sandbox::SandboxError;

/// The address pools of an engine that is not told others: 172.17.0.0/16 to 172.31.0.0/16, and
/// 192.168.0.0/16 in sixteen parts (moby: `libnetwork/ipamutils`).
const DEFAULT_ADDRESS_POOLS: u64 = 31;

#[derive(Clone, Debug, PartialEq)]
pub struct DockerFacts {
    /// `unix:///path` or `tcp://host:port`.
    pub host: String,
    pub version: String,
    /// As negotiated.
    pub api_version: String,
    pub storage_driver: String,
    /// 1 or 2.
    pub cgroup_version: u32,
    pub cpus: f64,
    pub memory_bytes: u64,
    pub data_root: String,
    /// `None` where the engine is on another machine.
    pub data_root_disk: Option<Disk>,
    /// Each takes an address pool; a sandbox of ours takes none.
    pub bridge_networks: u64,
    pub address_pools: u64,
    /// Tags of every image that the engine has.
    pub images: Vec<String>,
    /// Containers, networks and volumes with our labels, of live runs too.
    pub labelled: Labelled,
    pub limits_enforced: LimitsEnforced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    pub total_bytes: u64,
    pub free_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labelled {
    pub containers: usize,
    pub networks: usize,
    pub volumes: usize,
}

/// Which of [`crate::sandbox::Limits`] this engine holds a container to; the others it would ignore
/// or refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitsEnforced {
    pub cpus: bool,
    pub memory: bool,
    /// Where not, a container may use as much swap as it has memory.
    pub swap: bool,
    pub pids: bool,
    pub storage: bool,
}

impl LimitsEnforced {
    pub(crate) fn of(info: &SystemInfo) -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Self {
            cpus: info.cpu_cfs_quota == Some(true),
            memory: info.memory_limit == Some(true),
            swap: info.swap_limit == Some(true),
            pids: info.pids_limit == Some(true),
            storage: storage_is_enforced(info, &mounts),
        }
    }
}

/// The engine takes a size for `overlay2` on xfs with project quotas. It does not tell of the
/// quotas: the mount does, where the engine is on this machine.
fn storage_is_enforced(info: &SystemInfo, mounts: &str) -> bool {
    let status = info.driver_status.iter().flatten();
    let on_xfs = status.into_iter().any(|pair| *pair == ["Backing Filesystem", "xfs"]);
    let root = info.docker_root_dir.as_deref().unwrap_or_default();
    let mount = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (point, _kind, options) = (fields.next()?, fields.next()?, fields.next()?);
            std::path::Path::new(root).starts_with(point).then_some((point, options))
        })
        .max_by_key(|(point, _)| point.len());
    let has_quotas = mount.is_some_and(|(_, options)| {
        options.split(',').any(|option| matches!(option, "prjquota" | "pquota"))
    });
    info.driver.as_deref() == Some("overlay2") && on_xfs && has_quotas
}

pub(crate) async fn facts(engine: &Engine) -> Result<DockerFacts, SandboxError> {
    let docker = engine.docker().await?;
    let info = engine.info().await?;
    let networks = docker.list_networks(None);
    let networks = within(CALL_LIMIT, About::Engine, "listing networks", networks).await?;
    let no_filter = None::<bollard::query_parameters::ListImagesOptions>;
    let images = docker.list_images(no_filter);
    let images = within(CALL_LIMIT, About::Engine, "listing images", images).await?;
    let ours = [OURS.to_owned()];
    let labelled = Labelled {
        containers: engine.containers(&ours).await?.len(),
        networks: engine.networks(&ours).await?.len(),
        volumes: engine.volumes(&ours).await?.len(),
    };
    let is_bridge = |driver: &Option<String>| driver.as_deref() == Some("bridge");
    let tags = images.into_iter().flat_map(|image| image.repo_tags);
    let data_root = info.docker_root_dir.clone().unwrap_or_default();
    Ok(DockerFacts {
        host: engine.host().to_owned(),
        api_version: docker.client_version().to_string(),
        cgroup_version: info.cgroup_version.map_or(1, |v| if v.as_ref() == "2" { 2 } else { 1 }),
        cpus: cpus(&info),
        memory_bytes: info.mem_total.and_then(|bytes| bytes.try_into().ok()).unwrap_or(0),
        data_root_disk: disk(engine, &data_root),
        data_root,
        bridge_networks: networks.iter().filter(|net| is_bridge(&net.driver)).count() as u64,
        address_pools: address_pools(&info),
        images: tags.filter(|tag| tag != "<none>:<none>").collect(),
        labelled,
        limits_enforced: LimitsEnforced::of(&info),
        version: info.server_version.unwrap_or_default(),
        storage_driver: info.driver.unwrap_or_default(),
    })
}

/// Of the engine's machine; at least one.
pub(crate) fn cpus(info: &SystemInfo) -> f64 {
    info.ncpu.unwrap_or(1).max(1) as f64
}

fn disk(engine: &Engine, data_root: &str) -> Option<Disk> {
    if !engine.host().starts_with("unix://") {
        return None;
    }
    let stat = statvfs(data_root).ok()?;
    Some(Disk {
        total_bytes: stat.blocks() * stat.fragment_size(),
        free_bytes: stat.blocks_available() * stat.fragment_size(),
    })
}

/// How many networks the engine has addresses for.
fn address_pools(info: &SystemInfo) -> u64 {
    let Some(pools) = info.default_address_pools.as_deref().filter(|pools| !pools.is_empty())
    else {
        return DEFAULT_ADDRESS_POOLS;
    };
    let counts = pools.iter().filter_map(|pool| {
        let prefix: i64 = pool.base.as_deref()?.rsplit_once('/')?.1.parse().ok()?;
        let bits = u32::try_from(pool.size?.checked_sub(prefix)?).ok()?;
        1_u64.checked_shl(bits)
    });
    counts.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use bollard::models::SystemInfoDefaultAddressPools;

    use super::*;

    fn info(driver: &str, filesystem: &str) -> SystemInfo {
        SystemInfo {
            driver: Some(driver.to_owned()),
            driver_status: Some(vec![vec!["Backing Filesystem".to_owned(), filesystem.to_owned()]]),
            docker_root_dir: Some("/var/lib/docker".to_owned()),
            ..Default::default()
        }
    }

    #[test]
    fn storage_is_limited_by_overlay2_on_xfs_with_project_quotas_only() {
        let quota = "/dev/a / ext4 rw 0 0\n/dev/b /var/lib/docker xfs rw,prjquota 0 0\n";
        let plain = "/dev/a / xfs rw,prjquota 0 0\n/dev/b /var/lib/docker xfs rw,noquota 0 0\n";
        let elsewhere = "/dev/a / xfs rw 0 0\n/dev/b /var/lib/dock xfs rw,prjquota 0 0\n";
        assert!(storage_is_enforced(&info("overlay2", "xfs"), quota));
        assert!(!storage_is_enforced(&info("overlay2", "xfs"), plain));
        assert!(!storage_is_enforced(&info("overlay2", "xfs"), elsewhere));
        assert!(!storage_is_enforced(&info("overlay2", "extfs"), quota));
        assert!(!storage_is_enforced(&info("fuse-overlayfs", "xfs"), quota));
    }

    #[test]
    fn address_pools_are_counted_by_their_sizes() {
        let pool = |base: &str, size| SystemInfoDefaultAddressPools {
            base: Some(base.to_owned()),
            size: Some(size),
        };
        let mut info = SystemInfo::default();
        assert_eq!(address_pools(&info), 31);
        info.default_address_pools = Some(vec![pool("10.0.0.0/8", 24), pool("172.17.0.0/16", 16)]);
        assert_eq!(address_pools(&info), 65_537);
        info.default_address_pools = Some(vec![pool("10.0.0.0/24", 8), pool("nonsense", 24)]);
        assert_eq!(address_pools(&info), 0);
    }
}

//! The system calls that a sandbox of the `process` driver is refused, as seccomp programs.
//!
//! What it takes a capability to do is refused already. This list is for what an unprivileged
//! process may ask of the kernel and no terminal task needs: new namespaces above all, which would
//! give capabilities back, and interfaces with a history of exploits. Everything else is allowed,
//! as a task may run any program.

use std::collections::BTreeMap;

use orcapack_tasks::outcome::FailureClass;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::sandbox::SandboxError;

const REFUSED: [libc::c_long; 41] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
];

/// `clone` and `unshare` with any of these; without them they are how threads and processes are
/// made.
const NAMESPACES: [libc::c_int; 8] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
    // CLONE_NEWTIME, for `unshare` only: of `clone` the bits are the exit signal, always below.
    0x80,
];

/// To be installed in this order. Eight bytes an instruction.
pub(crate) fn programs() -> Result<Vec<Vec<u8>>, SandboxError> {
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().map(|number| (*number, Vec::new())).collect();
    for call in [libc::SYS_clone, libc::SYS_unshare] {
        let rules = NAMESPACES.iter().map(|flag| {
            let flag = u64::from(flag.cast_unsigned());
            let operator = SeccompCmpOp::MaskedEq(flag);
            SeccompCondition::new(0, SeccompCmpArgLen::Qword, operator, flag)
                .and_then(|condition| SeccompRule::new(vec![condition]))
        });
        refused.insert(call, rules.collect::<Result<_, _>>().map_err(internal)?);
    }
    // Its flags are in memory, where no filter can see them. "Not there" makes C libraries fall
    // back to `clone`.
    let unseen = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    [(refused, libc::EPERM), (unseen, libc::ENOSYS)]
        .into_iter()
        .map(|(rules, errno)| program(rules, errno.cast_unsigned()))
        .collect()
}

fn program(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: u32) -> Result<Vec<u8>, SandboxError> {
    let machine = TargetArch::try_from(std::env::consts::ARCH).map_err(internal)?;
    let (allow, refuse) = (SeccompAction::Allow, SeccompAction::Errno(errno));
    let filter = SeccompFilter::new(rules, allow, refuse, machine).map_err(internal)?;
    let program = BpfProgram::try_from(filter).map_err(internal)?;
    let bytes = program.iter().flat_map(|instruction| {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&instruction.code.to_ne_bytes());
        bytes[2] = instruction.jt;
        bytes[3] = instruction.jf;
        bytes[4..].copy_from_slice(&instruction.k.to_ne_bytes());
        bytes
    });
    Ok(bytes.collect())
}

fn internal(error: impl std::fmt::Display) -> SandboxError {
    SandboxError::new(FailureClass::Internal, format!("the seccomp filter: {error}"))
}

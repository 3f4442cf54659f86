//! How the guest agent starts a command: a supervisor that the agent forks, and the command as its
//! child.
//!
//! The supervisor adopts what the command's processes leave behind, so that a command and its
//! daemons stay one tree in `/proc`. It reports how the command ended at once, and lives on while
//! any process of the tree does: the end of the status pipe without a report means that it was
//! killed.
//!
//! The supervisor of a confined command also sets modes, owners and times for it.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;

use super::guest_sys::{self as sys, Disposition, Fork, Pid};
use super::guest_wire::Exec;
use super::{guest_channel, guest_confine, guest_metadata};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Of `/etc/passwd` and `/etc/group`, which belong to the image and may be anything.
const DATABASE_BYTES_MAX: u64 = 1 << 20;

/// Of the thread that sets modes, owners and times: a path, a page, and what leads there.
const MEDIATOR_STACK_BYTES: usize = 64 << 10;

/// What a shell says when it cannot start a command.
const NOT_FOUND: i32 = 127;
const CANNOT_RUN: i32 = 126;

pub struct Started {
    pub supervisor: Pid,
    /// Four bytes, the raw wait status, when the command ends; then the end of the tree.
    pub status: File,
    pub stdout: File,
    pub stderr: File,
}

/// Whatever is wrong with the command is said on its standard error, as a shell would; an error
/// here means that no process could be made.
pub fn start(command: &Exec, stdin: Option<File>) -> io::Result<Started> {
    let (status, status_in) = sys::pipe()?;
    let (stdout, stdout_in) = sys::pipe()?;
    let (stderr, stderr_in) = sys::pipe()?;
    for pipe in [&status, &stdout, &stderr] {
        sys::set_nonblocking(pipe.as_raw_fd())?;
    }
    match sys::split()? {
        Fork::Parent(supervisor) => Ok(Started { supervisor, status, stdout, stderr }),
        Fork::Child => supervise(command, stdin, status_in, stdout_in, stderr_in),
    }
}

fn supervise(
    command: &Exec,
    stdin: Option<File>,
    mut status: File,
    stdout: File,
    stderr: File,
) -> ! {
    if sys::adopt_orphans().is_err() {
        sys::exit(1);
    }
    let user = User::find(&command.user);
    let channel = command.writable_only.as_ref().map(|_| guest_channel::pair()).transpose();
    let ends = channel.and_then(|channel| Ok((channel, sys::split()?)));
    let (channel, main) = match ends {
        Ok((channel, Fork::Child)) => {
            let channel = channel.as_ref().map(|(_, theirs)| theirs);
            become_command(command, user, channel, [stdin, Some(stdout), Some(stderr)])
        }
        Ok((channel, Fork::Parent(pid))) => (channel, pid),
        Err(error) => {
            let _ = writeln!(&stderr, "cannot start a process: {error}");
            let _ = status.write_all(&(CANNOT_RUN << 8).to_le_bytes());
            sys::exit(0);
        }
    };
    let channel = channel.map(|(ours, theirs)| {
        std::mem::forget(theirs); // closed in a moment, with everything else
        ours
    });
    // Also the agent's own channel: only PID 1 may hold it.
    sys::close_all_but(
        &[Some(&status), channel.as_ref()].into_iter().flatten().collect::<Vec<_>>(),
    );
    sys::set_signals(Disposition::Ignore);
    if let (Some(channel), Ok(user)) = (channel, &user) {
        mediate(channel, user);
    }
    while let Some((pid, raw)) = sys::wait_any(true) {
        if pid == main {
            let _ = status.write_all(&raw.to_le_bytes());
        }
    }
    sys::exit(0)
}

/// Where this fails, the channel is closed, and the command is not started.
fn mediate(channel: File, user: &User) {
    let switched = if user.is_root() { Ok(()) } else { user.take_over() };
    if switched.and_then(|()| sys::hide_from_proc()).is_err() {
        return;
    }
    let serve = move || {
        if let Ok([listener, folder]) = guest_channel::receive(&channel) {
            guest_metadata::serve(&listener, &folder);
        }
    };
    let _ = std::thread::Builder::new().stack_size(MEDIATOR_STACK_BYTES).spawn(serve);
}

fn become_command(
    command: &Exec,
    user: Result<User, String>,
    channel: Option<&File>,
    streams: [Option<File>; 3],
) -> ! {
    let mut complaint = streams[2].as_ref().and_then(|stderr| stderr.try_clone().ok());
    let prepared = user.and_then(|user| {
        let strings = prepare(command, &user, streams)?;
        match (&command.writable_only, channel) {
            (None, _) => Ok(strings),
            (Some(folder), Some(channel)) => {
                guest_confine::enter(folder, user.uid, channel).map(|()| strings)
            }
            (Some(_), None) => Err("no supervisor to confine the command".to_owned()),
        }
    });
    let (code, message) = match prepared {
        Ok((argv, env)) => execute(&argv, &env),
        Err(message) => (CANNOT_RUN, message),
    };
    if let Some(complaint) = &mut complaint {
        let _ = writeln!(complaint, "{message}");
    }
    sys::exit(code)
}

type Strings = Vec<CString>;

fn prepare(
    command: &Exec,
    user: &User,
    [stdin, stdout, stderr]: [Option<File>; 3],
) -> Result<(Strings, Strings), String> {
    let stdin = match stdin {
        Some(file) => file,
        None => File::open("/dev/null").map_err(|error| format!("/dev/null: {error}"))?,
    };
    for (file, number) in [(Some(&stdin), 0), (stdout.as_ref(), 1), (stderr.as_ref(), 2)] {
        let Some(file) = file else { continue };
        sys::put_at(file, number).map_err(|error| format!("standard streams: {error}"))?;
    }
    sys::own_session();
    sys::set_signals(Disposition::Default);
    // The kernel takes the command before the agent when memory runs out. Not there in every kind
    // of sandbox.
    let _ = fs::write("/proc/self/oom_score_adj", "500");
    let cwd = if command.cwd.is_empty() { "/" } else { &command.cwd };
    // Before and after the switch: root may not be able to enter a user's folder, nor a user one of
    // root's.
    let early = std::env::set_current_dir(cwd);
    if !user.is_root() {
        let failed = |error| format!("cannot become user {:?}: {error}", command.user);
        // As a terminal is its user's: else /dev/stdout and its like could not be opened. Where
        // nobody but root is known to the sandbox, it stays root's.
        for stream in [Some(&stdin), stdout.as_ref(), stderr.as_ref()].into_iter().flatten() {
            let _ = sys::set_owner(stream, user.uid, user.gid);
        }
        user.take_over().map_err(failed)?;
    }
    early
        .or_else(|_| std::env::set_current_dir(cwd))
        .map_err(|error| format!("cannot change to directory {cwd:?}: {error}"))?;
    let mut env = command.env.clone();
    for (name, value) in [("HOME", user.home.as_str()), ("PATH", DEFAULT_PATH)] {
        if !env.iter().any(|(known, _)| known == name) {
            env.push((name.to_owned(), value.to_owned()));
        }
    }
    let argv = command.argv.iter().map(|word| CString::new(word.as_str())).collect();
    let env = env.iter().map(|(name, value)| CString::new(format!("{name}={value}"))).collect();
    match (argv, env) {
        (Ok(argv), Ok(env)) => Ok((argv, env)),
        _ => Err("a zero byte in an argument or the environment".to_owned()),
    }
}

/// Searches `PATH` like a shell. Returns only with the exit code and message of a command that
/// cannot run.
fn execute(argv: &[CString], env: &[CString]) -> (i32, String) {
    let Some(program) = argv.first() else { return (NOT_FOUND, "empty command".to_owned()) };
    let name = String::from_utf8_lossy(program.as_bytes()).into_owned();
    if name.contains('/') {
        let error = sys::exec(program, argv, env);
        return (exit_code(&error), format!("{name}: {}", reason(&error)));
    }
    let path = env.iter().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
    let path = String::from_utf8_lossy(path.unwrap_or_default()).into_owned();
    let mut worst = None;
    for folder in path.split(':').filter(|_| !name.is_empty()) {
        let folder = if folder.is_empty() { "." } else { folder };
        let Ok(candidate) = CString::new(format!("{folder}/{name}")) else { continue };
        let error = sys::exec(&candidate, argv, env);
        if exit_code(&error) == CANNOT_RUN && worst.is_none() {
            worst = Some((CANNOT_RUN, format!("{name}: {}", reason(&error))));
        }
    }
    worst.unwrap_or_else(|| (NOT_FOUND, format!("{name}: command not found")))
}

fn exit_code(error: &io::Error) -> i32 {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => NOT_FOUND,
        _ => CANNOT_RUN,
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "not found".to_owned(),
        _ => error.to_string(),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct User {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    home: String,
}

impl User {
    /// The agent's own, to which nothing must be changed.
    fn is_root(&self) -> bool {
        self.uid == 0 && self.gid == 0 && self.groups.is_empty()
    }

    /// This process becomes the user's.
    fn take_over(&self) -> io::Result<()> {
        sys::become_user(self.uid, self.gid, &self.groups)
    }

    fn find(wanted: &str) -> Result<Self, String> {
        Self::find_in(wanted, &database("/etc/passwd"), &database("/etc/group"))
    }

    /// `name`, `uid`, and either with `:group` or `:gid`; empty is root. A number need not be in
    /// the files.
    fn find_in(wanted: &str, passwd: &str, group: &str) -> Result<Self, String> {
        let wanted = if wanted.is_empty() { "0" } else { wanted };
        let (name, group_name) = match wanted.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (wanted, None),
        };
        let number = name.parse::<u32>().ok();
        let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|entry| {
            entry.len() >= 6
                && (entry[0] == name || number.is_some_and(|uid| entry[2].parse() == Ok(uid)))
        });
        let mut user = match (&entry, number) {
            (Some(entry), _) => Self {
                uid: entry[2].parse().map_err(|_| format!("/etc/passwd: bad uid of {name:?}"))?,
                gid: entry[3].parse().map_err(|_| format!("/etc/passwd: bad gid of {name:?}"))?,
                groups: memberships(entry[0], group),
                home: entry[5].to_owned(),
            },
            (None, Some(uid)) => Self { uid, gid: 0, groups: Vec::new(), home: "/".to_owned() },
            (None, None) => return Err(format!("no user {name:?} in /etc/passwd")),
        };
        if user.uid == 0 {
            user.groups.clear();
        }
        if let Some(name) = group_name {
            let entry = group.lines().filter(|line| line.split(':').next() == Some(name));
            let listed = entry.filter_map(|line| line.split(':').nth(2)?.parse().ok()).next();
            user.gid = listed
                .or_else(|| name.parse().ok())
                .ok_or_else(|| format!("no group {name:?} in /etc/group"))?;
            user.groups.clear();
        }
        Ok(user)
    }
}

fn memberships(name: &str, group: &str) -> Vec<u32> {
    let entries = group.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let member = |entry: &Vec<&str>| {
        entry.get(3).is_some_and(|members| members.split(',').any(|member| member == name))
    };
    entries.filter(member).filter_map(|entry| entry[2].parse().ok()).collect()
}

fn database(path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(DATABASE_BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::User;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\nbroken\nann:x:1000:1001:Ann:/home/ann:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nann:x:1001:\naudio:x:29:bob,ann\nbad\nvideo:x:44:bob\n";

    fn user(uid: u32, gid: u32, groups: &[u32], home: &str) -> Result<User, String> {
        Ok(User { uid, gid, groups: groups.to_vec(), home: home.to_owned() })
    }

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let find = |wanted| User::find_in(wanted, PASSWD, GROUP);
        assert_eq!(find(""), user(0, 0, &[], "/root"));
        assert_eq!(find("ann"), user(1000, 1001, &[29], "/home/ann"));
        assert_eq!(find("1000"), user(1000, 1001, &[29], "/home/ann"));
        assert_eq!(find("4711"), user(4711, 0, &[], "/"));
        assert_eq!(find("ann:audio"), user(1000, 29, &[], "/home/ann"));
        assert_eq!(find("7:8"), user(7, 8, &[], "/"));
        assert!(find("eve").is_err());
        assert!(find("ann:eve").is_err());
    }
}

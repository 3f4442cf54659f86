//! What the `process` driver wants of the namespaces around a guest agent: the first frame on the
//! agent's input when it is started as `init`. One more byte after it tells that the process is in
//! its control group now. Compiled twice, as the other frames are.

use super::guest_wire::{Malformed, Message, Reader, Writer};

/// Paths are the host's, but those of `folders`, `files` and `hidden`, which are relative to the
/// sandbox's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    pub hostname: String,
    /// Loopback only; else the host's network.
    pub own_network: bool,
    /// Of the host's process. Where the first is not 0, a user namespace gives the sandbox a root
    /// of its own.
    pub user_and_group: (u32, u32),
    /// The root file system, read-only, below everything else.
    pub rootfs: String,
    /// What of `rootfs` is not there for the sandbox. Not empty where `rootfs` is the host's own.
    pub hidden: Vec<String>,
    /// Layers over `rootfs`, the uppermost first.
    pub layers: Vec<String>,
    /// Over all layers: folders with their modes, files.
    pub folders: Vec<(String, u32)>,
    pub files: Vec<(String, Vec<u8>)>,
    /// Of all that is written, when it is kept in memory.
    pub storage_bytes: u64,
    /// A folder with the folders `upper` and `work`, which keep what is written; empty: memory
    /// does.
    pub upper: String,
    /// The control group's files of memory events, memory in use and processes; empty where there
    /// is none.
    pub counters: [String; 3],
    /// Seccomp programs, to be installed in this order.
    pub filters: Vec<Vec<u8>>,
}

impl Message for Setup {
    fn kind(&self) -> u8 {
        1
    }

    fn write(&self, out: &mut Writer) {
        let text = |out: &mut Writer, text: &String| out.bytes(text.as_bytes());
        text(out, &self.hostname);
        out.bool(self.own_network);
        out.u32(self.user_and_group.0);
        out.u32(self.user_and_group.1);
        text(out, &self.rootfs);
        out.list(&self.hidden, text);
        out.list(&self.layers, text);
        out.list(&self.folders, |out, (path, mode)| {
            text(out, path);
            out.u32(*mode);
        });
        out.list(&self.files, |out, (path, bytes)| {
            text(out, path);
            out.bytes(bytes);
        });
        out.u64(self.storage_bytes);
        text(out, &self.upper);
        self.counters.iter().for_each(|path| text(out, path));
        out.list(&self.filters, |out, program| out.bytes(program));
    }

    fn read(kind: u8, from: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        if kind == 1 { Ok(read(from)) } else { Err(Malformed::Kind(kind)) }
    }
}

fn read(from: &mut Reader<'_>) -> Option<Setup> {
    Some(Setup {
        hostname: from.string()?,
        own_network: from.bool()?,
        user_and_group: (from.u32()?, from.u32()?),
        rootfs: from.string()?,
        hidden: from.list(Reader::string)?,
        layers: from.list(Reader::string)?,
        folders: from.list(|from| from.string().zip(from.u32()))?,
        files: from.list(|from| from.string().zip(from.bytes()))?,
        storage_bytes: from.u64()?,
        upper: from.string()?,
        counters: [from.string()?, from.string()?, from.string()?],
        filters: from.list(Reader::bytes)?,
    })
}

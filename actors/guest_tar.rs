//! Tar archives in pieces, as they come and go over the wire: unpacking into a folder, packing a
//! file or folder.
//!
//! Only regular files and folders (POSIX ustar, with GNU long names) exist here. Every step is
//! taken from an open folder to a name inside it and follows no link, so that what a hostile
//! process plants can mislead neither way.

use std::collections::VecDeque;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::guest_sys::{self as sys, O_CREAT, O_DIRECTORY, O_EXCL, O_NONBLOCK, O_WRONLY};
use super::guest_wire::CHUNK_BYTES;

const BLOCK_BYTES: usize = 512;
const NAME_BYTES_MAX: u64 = 4096;
/// Eleven octal digits.
const SIZE_MAX: u64 = (1 << 33) - 1;
/// Of nested folders: each holds a descriptor while it is packed or removed.
const DEPTH_MAX: usize = 200;
/// A process that puts back what is removed from under an archive's path wins at most this often.
const REPLACE_TRIES_MAX: usize = 8;

/// An archive that is being unpacked.
pub struct Unpack {
    root: File,
    /// Links to folders are followed, as in an image that its builder trusts.
    follow: bool,
    pending: Vec<u8>,
    entry: Entry,
    long_name: Option<String>,
    ended: bool,
}

enum Entry {
    Header,
    File { file: File, left: u64, padding: u64, mode: u32 },
    LongName { name: Vec<u8>, left: u64, padding: u64 },
    Padding(u64),
}

impl Unpack {
    /// Into `dir`, which is made when absent. Unless links are followed, one in its last place is
    /// replaced by a folder.
    pub fn new(dir: &str, follow: bool) -> Result<Self, String> {
        let parts: Vec<&str> =
            dir.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if !dir.starts_with('/') || parts.contains(&"..") {
            return Err(format!("{dir:?} is not an absolute path without \"..\""));
        }
        let root = match parts.split_last() {
            None => File::open("/"),
            Some((last, above)) => {
                let above = format!("/{}", above.join("/"));
                fs::create_dir_all(&above)
                    .and_then(|()| File::open(&above))
                    .and_then(|above| enter(&above, last, follow))
            }
        };
        let root = root.map_err(|error| format!("cannot make folder {dir:?}: {error}"))?;
        let entry = Entry::Header;
        Ok(Self { root, follow, pending: Vec::new(), entry, long_name: None, ended: false })
    }

    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() && !self.ended {
            bytes = self.step(bytes)?;
        }
        Ok(())
    }

    pub fn finish(self) -> Result<(), String> {
        match (self.entry, self.pending.is_empty()) {
            (Entry::Header, true) => Ok(()),
            _ => Err("the archive ends in the middle of an entry".to_owned()),
        }
    }

    /// Uses up some of `bytes` and returns the rest.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], String> {
        match &mut self.entry {
            Entry::Header => {
                let (more, rest) = cut(bytes, (BLOCK_BYTES - self.pending.len()) as u64);
                self.pending.extend_from_slice(more);
                if self.pending.len() == BLOCK_BYTES {
                    let block = std::mem::take(&mut self.pending);
                    self.entry = self.open_entry(&block)?;
                    self.skip_empty()?;
                }
                Ok(rest)
            }
            Entry::File { file, left, .. } => {
                let (more, rest) = cut(bytes, *left);
                file.write_all(more).map_err(|error| format!("cannot write: {error}"))?;
                *left -= more.len() as u64;
                self.skip_empty()?;
                Ok(rest)
            }
            Entry::LongName { name, left, .. } => {
                let (more, rest) = cut(bytes, *left);
                name.extend_from_slice(more);
                *left -= more.len() as u64;
                self.skip_empty()?;
                Ok(rest)
            }
            Entry::Padding(left) => {
                let (more, rest) = cut(bytes, *left);
                *left -= more.len() as u64;
                self.skip_empty()?;
                Ok(rest)
            }
        }
    }

    /// Closes an entry whose last byte is there.
    fn skip_empty(&mut self) -> Result<(), String> {
        self.entry = match std::mem::replace(&mut self.entry, Entry::Header) {
            Entry::File { file, left: 0, padding, mode } => {
                file.set_permissions(Permissions::from_mode(mode))
                    .map_err(|error| format!("cannot set a mode: {error}"))?;
                Entry::Padding(padding)
            }
            Entry::LongName { name, left: 0, padding } => {
                self.long_name = Some(text_of(&name)?);
                Entry::Padding(padding)
            }
            other => other,
        };
        if matches!(self.entry, Entry::Padding(0)) {
            self.entry = Entry::Header;
        }
        Ok(())
    }

    fn open_entry(&mut self, block: &[u8]) -> Result<Entry, String> {
        let Some(header) = Header::read(block)? else {
            self.ended = true;
            return Ok(Entry::Header);
        };
        let padding = header.size.next_multiple_of(BLOCK_BYTES as u64) - header.size;
        if header.kind == b'L' {
            if header.size > NAME_BYTES_MAX {
                return Err(format!("a name of {} bytes in the archive", header.size));
            }
            return Ok(Entry::LongName { name: Vec::new(), left: header.size, padding });
        }
        let name = self.long_name.take().unwrap_or(header.name);
        let wrong = |error: io::Error| format!("cannot unpack {name:?}: {error}");
        let parts = parts_of(&name)?;
        match header.kind {
            b'5' => {
                let folder = self.enter_all(&parts).map_err(wrong)?;
                // The folder unpacked into has the mode that it has, whatever the archive says of
                // ".".
                if !parts.is_empty() {
                    folder.set_permissions(Permissions::from_mode(header.mode)).map_err(wrong)?;
                }
                Ok(Entry::Padding(header.size + padding))
            }
            b'0' | 0 => {
                let (last, above) =
                    parts.split_last().ok_or_else(|| format!("a file named {name:?}"))?;
                let folder = self.enter_all(above).map_err(wrong)?;
                let file = create(&folder, last).map_err(wrong)?;
                Ok(Entry::File { file, left: header.size, padding, mode: header.mode })
            }
            kind => {
                Err(format!("{name:?} is of tar type {:?}, neither file nor folder", kind as char))
            }
        }
    }

    fn enter_all(&self, parts: &[&str]) -> io::Result<File> {
        let mut folder = self.root.try_clone()?;
        for part in parts {
            folder = enter(&folder, part, self.follow)?;
        }
        Ok(folder)
    }
}

fn cut(bytes: &[u8], length: u64) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.len().min(usize::try_from(length).unwrap_or(usize::MAX)))
}

struct Header {
    name: String,
    mode: u32,
    size: u64,
    kind: u8,
}

impl Header {
    /// `None` at the end of the archive, a block of zeros.
    fn read(block: &[u8]) -> Result<Option<Self>, String> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let field = |from: usize, to: usize| block.get(from..to).unwrap_or_default();
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        let blank: u64 = field(148, 156).iter().map(|byte| u64::from(*byte)).sum();
        if octal(field(148, 156)) != Some(sum - blank + 8 * u64::from(b' ')) {
            return Err("a tar header with a wrong checksum".to_owned());
        }
        let numbers = octal(field(100, 108)).zip(octal(field(124, 136)));
        let (mode, size) = numbers.ok_or("a tar header with a malformed number")?;
        let mut name = text_of(field(0, 100))?;
        if field(257, 263) == b"ustar\0" {
            let prefix = text_of(field(345, 500))?;
            if !prefix.is_empty() {
                name = format!("{prefix}/{name}");
            }
        }
        let kind = block.get(156).copied().unwrap_or(0);
        Ok(Some(Self { name, mode: (mode & 0o7777) as u32, size, kind }))
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_matches(|c| c == ' ' || c == '\0');
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

fn text_of(field: &[u8]) -> Result<String, String> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let text = field.get(..end).unwrap_or_default().to_vec();
    String::from_utf8(text).map_err(|_| "a name in the archive is not UTF-8".to_owned())
}

fn parts_of(name: &str) -> Result<Vec<&str>, String> {
    let parts: Vec<&str> =
        name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if name.starts_with('/') || parts.contains(&"..") {
        return Err(format!("{name:?} would leave the folder it is unpacked into"));
    }
    Ok(parts)
}

/// Opens the folder `name`, made when absent; what is there and no folder (a link, a file) is
/// replaced.
fn enter(folder: &File, name: &str, follow: bool) -> io::Result<File> {
    let open = || if follow { sys::open_folder_in(folder, name) } else { open_real(folder, name) };
    replace(|| match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            sys::make_dir_in(folder, name)?;
            open()
        }
        Err(error) if is_no_folder(&error) && !follow => {
            sys::remove_in(folder, name, false)?;
            Err(io::ErrorKind::AlreadyExists.into())
        }
        other => other,
    })
}

fn open_real(folder: &File, name: &str) -> io::Result<File> {
    sys::open_in(folder, name, O_DIRECTORY, 0)
}

/// A new file in the place of whatever is there.
fn create(folder: &File, name: &str) -> io::Result<File> {
    replace(|| {
        match sys::remove_in(folder, name, false) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                remove_tree(folder, name, 0)?;
            }
            _ => {} // absent, or the creation says what is wrong
        }
        sys::open_in(folder, name, O_CREAT | O_EXCL | O_WRONLY, 0o600)
    })
}

fn replace(mut attempt: impl FnMut() -> io::Result<File>) -> io::Result<File> {
    let mut result = attempt();
    for _ in 1..REPLACE_TRIES_MAX {
        match &result {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => result = attempt(),
            _ => break,
        }
    }
    result
}

fn is_no_folder(error: &io::Error) -> bool {
    const ELOOP: i32 = 40;
    error.kind() == io::ErrorKind::NotADirectory || error.raw_os_error() == Some(ELOOP)
}

fn remove_tree(folder: &File, name: &str, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other("folders nested too deeply"));
    }
    let inner = open_real(folder, name)?;
    for entry in names_in(&inner)? {
        match sys::remove_in(&inner, &entry, false) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                remove_tree(&inner, &entry, depth + 1)?;
            }
            other => other?,
        }
    }
    sys::remove_in(folder, name, true)
}

/// Names that are not UTF-8 are left out: an archive's path is text on every host.
fn names_in(folder: &File) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

/// A file or folder that is being packed, one piece at a time.
pub struct Pack {
    /// The folders that are open, outermost first: where they are in the archive, and what is left
    /// of them.
    open: Vec<(File, String, VecDeque<String>)>,
    /// The file that is being read, what of it is to come, and the padding after it.
    file: Option<(File, u64, usize)>,
    bytes_left: u64,
    ended: bool,
}

/// Why packing ended before its end.
pub enum Stopped {
    TooLarge,
    Failed(String),
}

impl Pack {
    /// `None` where there is nothing at `path`, or neither a file nor a folder.
    pub fn new(path: &str, bytes_max: u64) -> Result<Option<Self>, String> {
        let parts: Vec<&str> =
            path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let (last, above) = match parts.split_last() {
            Some((last, above)) if path.starts_with('/') && !parts.contains(&"..") => (last, above),
            _ => return Err(format!("{path:?} is not an absolute path to something below \"/\"")),
        };
        let above = match File::open(format!("/{}", above.join("/"))) {
            Ok(above) => above,
            Err(error) if error.kind() == io::ErrorKind::NotFound || is_no_folder(&error) => {
                return Ok(None);
            }
            Err(error) => return Err(format!("cannot open {path:?}: {error}")),
        };
        let found = sys::open_in(&above, last, O_NONBLOCK, 0).ok().and_then(|file| {
            let metadata = file.metadata().ok()?;
            (metadata.is_file() || metadata.is_dir()).then_some(())
        });
        if found.is_none() {
            return Ok(None);
        }
        let start = (above, String::new(), VecDeque::from([(*last).to_owned()]));
        let bytes_left = bytes_max.min(SIZE_MAX);
        Ok(Some(Self { open: vec![start], file: None, bytes_left, ended: false }))
    }

    /// About [`CHUNK_BYTES`]; empty at the end of the archive.
    pub fn next_piece(&mut self) -> Result<Vec<u8>, Stopped> {
        let mut piece = Vec::new();
        while piece.len() < CHUNK_BYTES && !self.ended {
            let before = piece.len();
            self.step(&mut piece)?;
            self.bytes_left = self
                .bytes_left
                .checked_sub((piece.len() - before) as u64)
                .ok_or(Stopped::TooLarge)?;
        }
        Ok(piece)
    }

    fn step(&mut self, piece: &mut Vec<u8>) -> Result<(), Stopped> {
        if let Some((file, left, padding)) = &mut self.file {
            let wanted = (*left).min((CHUNK_BYTES - piece.len()) as u64);
            let start = piece.len();
            // The header has promised a size: what is cut off meanwhile, or cannot be read, becomes
            // zeros.
            let _ = (&*file).take(wanted).read_to_end(piece);
            piece.resize(start + wanted as usize, 0);
            *left -= wanted;
            if *left == 0 {
                piece.resize(piece.len() + *padding, 0);
                self.file = None;
            }
            return Ok(());
        }
        let depth = self.open.len();
        let Some((folder, at, names)) = self.open.last_mut() else {
            piece.resize(piece.len() + 2 * BLOCK_BYTES, 0);
            self.ended = true;
            return Ok(());
        };
        let Some(name) = names.pop_front() else {
            self.open.pop();
            return Ok(());
        };
        // A FIFO must not block the agent; what is gone meanwhile, a link, or unreadable is left
        // out.
        let Ok(file) = sys::open_in(folder, &name, O_NONBLOCK, 0) else { return Ok(()) };
        let Ok(metadata) = file.metadata() else { return Ok(()) };
        let path = if at.is_empty() { name } else { format!("{at}/{name}") };
        if metadata.is_dir() {
            if depth > DEPTH_MAX {
                return Err(Stopped::Failed("folders nested too deeply".to_owned()));
            }
            write_header(piece, &format!("{path}/"), &metadata, 0);
            let names = names_in(&file).map_err(|error| format!("cannot read {path:?}: {error}"));
            let names = names.map_err(Stopped::Failed)?;
            self.open.push((file, path, names.into()));
        } else if metadata.is_file() {
            let size = metadata.len();
            // Before any of it is read: a sparse file of a terabyte costs nothing.
            if size > self.bytes_left {
                return Err(Stopped::TooLarge);
            }
            write_header(piece, &path, &metadata, size);
            let padding = (size.next_multiple_of(BLOCK_BYTES as u64) - size) as usize;
            self.file = (size > 0).then_some((file, size, padding));
        }
        Ok(())
    }
}

fn write_header(piece: &mut Vec<u8>, path: &str, metadata: &fs::Metadata, size: u64) {
    if path.len() > 100 {
        let length = path.len() + 1;
        write_block(piece, "././@LongLink", 0o644, 0, length as u64, b'L');
        piece.extend_from_slice(path.as_bytes());
        piece.resize(piece.len() + 1, 0);
        piece.resize(piece.len() + length.next_multiple_of(BLOCK_BYTES) - length, 0);
    }
    let kind = if metadata.is_dir() { b'5' } else { b'0' };
    let seconds = u64::try_from(metadata.mtime()).unwrap_or(0);
    write_block(piece, path, metadata.mode() & 0o7777, seconds, size, kind);
}

/// A name that is too long is cut; a long-name entry before it holds the whole.
fn write_block(piece: &mut Vec<u8>, name: &str, mode: u32, seconds: u64, size: u64, kind: u8) {
    let mut block = [0; BLOCK_BYTES];
    let mut set = |at: usize, text: &[u8]| {
        block.iter_mut().skip(at).zip(text).for_each(|(to, from)| *to = *from);
    };
    set(0, name.as_bytes().get(..100).unwrap_or(name.as_bytes()));
    set(100, format!("{mode:07o}\0").as_bytes());
    set(108, b"0000000\0");
    set(116, b"0000000\0");
    set(124, format!("{size:011o}\0").as_bytes());
    set(136, format!("{seconds:011o}\0").as_bytes());
    set(148, b"        ");
    set(156, &[kind]);
    set(257, b"ustar  \0");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    block.iter_mut().skip(148).zip(sum.as_bytes()).for_each(|(to, from)| *to = *from);
    piece.extend_from_slice(&block);
}

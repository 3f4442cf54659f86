//! Archives that are taken from and made.

use crate::generate::families::archives::TRASH;
use crate::generate::families::trees::{
    Files, STEMS, commands, grow, lying, others, prose, rooms, tree,
};
use crate::generate::random::Random;
use crate::generate::template::{End, Made, gone, holds, output, text};

/// Where tests unpack what was made.
const UNPACKED: &str = "/tmp/unpacked";

/// A command that packs a part of a folder; the same files make the same bytes.
pub(super) fn packing(at: &str, what: &str, archive: &str) -> String {
    let tar = "tar --sort=name --mtime=@1700000000 --owner=0 --group=0 --numeric-owner -c";
    let compress = match compression(archive) {
        "gzip" => "gzip -n",
        other => other,
    };
    format!("{tar} -C {at} {what} | {compress} > {archive}")
}

/// The program for the archive's ending.
fn compression(archive: &str) -> &'static str {
    match archive.rsplit('.').next() {
        Some("xz") => "xz",
        Some("bz2") => "bzip2",
        _ => "gzip",
    }
}

/// The archive is compressed as it says, and can be unpacked; what follows may look at the files.
fn unpacks(archive: &str) -> Vec<End> {
    vec![
        holds(
            "the compression is the one of the name",
            &format!("{} -t < {archive}", compression(archive)),
        ),
        holds(
            "the archive can be unpacked",
            &format!(
                "rm -rf {UNPACKED}; mkdir {UNPACKED} && tar -xpf {archive} -C {UNPACKED} 2>&1"
            ),
        ),
    ]
}

pub(super) fn member(values: &[&'static str], random: &mut Random) -> Made {
    let (archive, member, out) = (values[0], values[1], values[2]);
    let folders = rooms(random, "packed");
    let mut files = grow(random, &folders, &["txt", "md"], 24);
    let wanted = prose(random, 12..=40);
    let deep = &folders[random.within(1..=4)];
    files.push((format!("{deep}/{member}.txt"), wanted.clone()));
    for lure in [
        format!("{deep}/{member}.txt.old"),
        format!("{}/old-{member}.txt", folders[2]),
        format!("{}/{member}.md", folders[4]),
    ] {
        files.push((lure, prose(random, 5..=20)));
    }
    let extract =
        |pattern: &str| vec![format!("tar -xf {archive} -O --wildcards '{pattern}' > {out}")];
    Made {
        start: lying(&files),
        setup: vec![packing(".", "packed", archive), "rm -r packed".to_owned()],
        end: vec![
            text(out, &wanted),
            gone("packed"),
            holds("the archive is whole", &format!("tar -tf {archive} > /dev/null")),
        ],
        solution: extract(&format!("*/{member}.txt")),
        hard_coded: vec![format!("echo {member} > {out}")],
        near_miss: extract(&format!("*{member}.txt*")),
        ..Made::default()
    }
}

pub(super) fn pack(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, archive, trash, skipped) = (values[0], values[1], values[2], values[3]);
    let folders = rooms(random, folder);
    let other = *random.pick(&others(&TRASH, trash));
    let mut files = grow(random, &folders, &["txt", trash, other], 30);
    let names = [
        format!("{folder}/{skipped}/index.txt"),
        format!("{}/{skipped}/deep/er.txt", folders[3]),
        format!("{}/{skipped}-notes/kept.txt", folders[1]),
        format!("{}/{skipped}.txt", folders[2]),
        format!("{}/letter.{trash}.txt", folders[4]),
        format!("{}/last.{trash}", folders[4]),
    ];
    files.extend(names.map(|path| (path, prose(random, 1..=3))));
    let (end, inside) = (format!(".{trash}"), format!("/{skipped}/"));
    let is_meant = |(path, _): &&(String, String)| !path.ends_with(&end) && !path.contains(&inside);
    let packed: Files = files.iter().filter(is_meant).cloned().collect();
    let mut ends = unpacks(archive);
    ends.push(output(&format!("ls -A {UNPACKED}"), folder));
    ends.push(tree(UNPACKED, folder, &packed));
    ends.push(tree(".", folder, &files));
    let tar = |skipped: &str| {
        vec![format!("tar -caf {archive} --exclude='*.{trash}' --exclude='{skipped}' {folder}")]
    };
    Made {
        start: lying(&files),
        end: ends,
        solution: tar(skipped),
        hard_coded: vec![format!("tar -caf {archive} {folder}/*.txt")],
        near_miss: tar(&format!("{folder}/{skipped}")),
        ..Made::default()
    }
}

pub(super) fn repack(values: &[&'static str], random: &mut Random) -> Made {
    let (old, new, secret) = (values[0], values[1], values[2]);
    let root = *random.pick(&["bundle", "handout", "package", "material"]);
    let folders = rooms(random, root);
    let mut files = grow(random, &folders, &["txt", "md", "run"], 26);
    for stay in [format!("{}/{secret}.example", folders[1]), format!("{root}/no-{secret}")] {
        files.push((stay, prose(random, 1..=2)));
    }
    let link = format!("{}/{}-link", folders[3], random.pick(&STEMS));
    let mut left: Vec<(String, &str)> = Vec::new();
    let mut setup = Vec::new();
    for (at, (path, _)) in files.iter().enumerate() {
        let mode = ["644", "600", "755", "640", "750"][at % 5];
        setup.push(format!("chmod {mode} {path}"));
        left.push((path.clone(), mode));
    }
    left.sort_unstable();
    let modes: String = left.iter().map(|(path, mode)| format!("{mode} {path}\n")).collect();
    let mut start = files.clone();
    for folder in [&folders[0], &folders[2], &folders[4]] {
        start.push((format!("{folder}/{secret}"), prose(random, 1..=2)));
    }
    setup.push(format!("ln -s ../{}.x {link}", random.pick(&STEMS)));
    let mut ends = unpacks(new);
    ends.extend([
        output(&format!("ls -A {UNPACKED}"), root),
        tree(UNPACKED, root, &files),
        output(
            &format!(
                "cd {UNPACKED} && find {root} -type f -printf '%p %m\\n' | LC_ALL=C sort | while \
                 read -r p m; do echo \"$m $p\"; done"
            ),
            &modes,
        ),
        holds("the link is a link", &format!("[ -L {UNPACKED}/{link} ]")),
        output(&format!("tar -tf {old} | grep -c '/{secret}$'"), "3"),
    ]);
    setup.extend([packing(".", root, old), format!("rm -r {root}")]);
    let script = |remove: &str| {
        commands(&format!(
            "t=$(mktemp -d)\ntar -xpf {old} -C $t\n{remove}\ntar -C $t -caf {new} {root}"
        ))
    };
    Made {
        start: lying(&start),
        setup,
        end: ends,
        solution: script(&format!("find $t -type f -name {secret} -delete")),
        hard_coded: vec![format!("cp {old} {new}")],
        near_miss: script(&format!("rm $t/{root}/{secret}")),
        ..Made::default()
    }
}

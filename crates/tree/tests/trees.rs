//! Trees that come out as they went in, and archives that are refused.

use std::{
    fs,
    io::{self, Read},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    },
    path::Path,
};

use tar::{Builder, EntryType, Header};
use tempfile::TempDir;
use tree::{
    Copied, Error, Malformed, Refusal, Symlinks, Unpack, make_directories, pack, pack_telling, unpack,
};

fn into(dir: &Path, archive: impl Read, options: &Unpack) -> Result<Copied, Error> {
    unpack(archive, fs::File::open(dir).expect("the directory opens").as_fd(), options)
}

/// Kind, name, target, content.
type Raw<'a> = (EntryType, &'a [u8], &'a [u8], &'a [u8]);

/// An archive of entries exactly as they are given.
fn archive(entries: &[Raw<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, name, target, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        let raw = header.as_old_mut();
        raw.name[..name.len()].copy_from_slice(name);
        raw.linkname[..target.len()].copy_from_slice(target);
        header.set_cksum();
        builder.append(&header, *content).expect("memory takes it");
    }
    builder.into_inner().expect("memory takes it")
}

fn refusal(outcome: Result<Copied, Error>) -> (String, Refusal) {
    match outcome {
        Err(Error::Refused { entry, reason }) => (entry, reason),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_tree_comes_out_as_it_went_in() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let long = "n".repeat(120);
    let root = from.path();
    fs::create_dir_all(root.join("a/b").join(&long)).unwrap();
    fs::write(root.join("a/file"), "text").unwrap();
    fs::write(root.join("a/b").join(&long).join("deep"), vec![7; 200_000]).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::set_permissions(root.join("a/file"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::hard_link(root.join("a/file"), root.join("z")).unwrap();
    symlink("./a//file", root.join("short")).unwrap();
    symlink(format!("/{}", "t/".repeat(100)), root.join("long")).unwrap();
    fs::create_dir(root.join("closed")).unwrap();
    fs::write(root.join("closed/inner"), "x").unwrap();
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o555)).unwrap();

    let mut bytes = Vec::new();
    let packed = pack(root, &mut bytes).unwrap();
    assert_eq!(packed, into(to.path(), &bytes[..], &Unpack::default()).unwrap());
    assert_eq!(packed.bytes, 4 + 200_000 + 1, "the second name of a file has no content");

    let out = to.path();
    assert_eq!(fs::read(out.join("a/b").join(&long).join("deep")).unwrap(), vec![7; 200_000]);
    let (file, link) = (fs::metadata(out.join("a/file")).unwrap(), fs::metadata(out.join("z")).unwrap());
    assert_eq!(file.ino(), link.ino());
    assert_eq!(file.mode() & 0o7777, 0o751);
    assert_eq!(fs::read_link(out.join("short")).unwrap(), Path::new("./a//file"));
    assert_eq!(fs::read_link(out.join("long")).unwrap(), fs::read_link(root.join("long")).unwrap());
    for path in ["a", "a/file", "closed", "closed/inner"] {
        let (was, is) = (fs::metadata(root.join(path)).unwrap(), fs::metadata(out.join(path)).unwrap());
        assert_eq!((was.mode(), was.mtime()), (is.mode(), is.mtime()), "{path}");
    }
    for dir in [root, out] {
        fs::set_permissions(dir.join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn one_file_is_one_entry_and_a_link_to_it_is_followed() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    fs::write(from.path().join("real"), "text").unwrap();
    symlink("real", from.path().join("name")).unwrap();
    let mut bytes = Vec::new();
    pack(&from.path().join("real"), &mut bytes).unwrap();
    into(to.path(), &bytes[..], &Unpack::default()).unwrap();
    assert_eq!(fs::read_to_string(to.path().join("real")).unwrap(), "text");
    assert!(matches!(pack(&from.path().join("none"), Vec::new()), Err(Error::Entry { .. })));
}

#[test]
fn a_file_whose_size_is_not_told_comes_out_whole() {
    let to = TempDir::new().unwrap();
    let mut bytes = Vec::new();
    let packed = pack(Path::new("/proc/self/status"), &mut bytes).unwrap();
    into(to.path(), &bytes[..], &Unpack::default()).unwrap();
    let status = fs::read(to.path().join("status")).unwrap();
    assert!(status.starts_with(b"Name:"), "{}", status.escape_ascii());
    assert_eq!(packed, Copied { entries: 1, bytes: status.len() as u64 });
}

#[test]
fn what_is_left_out_is_told() {
    let from = TempDir::new().unwrap();
    fs::create_dir(from.path().join("d")).unwrap();
    fs::write(from.path().join("d/file"), "").unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, from.path().join("d/pipe"), rustix::fs::Mode::RUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(from.path().join("socket")).unwrap();
    let mut told = Vec::new();
    let packed = pack_telling(from.path(), Vec::new(), |path| told.push(path.to_owned())).unwrap();
    told.sort();
    assert_eq!((packed.entries, told), (2, vec!["d/pipe".into(), "socket".into()]));
}

#[test]
fn names_that_lead_out_are_refused_and_nothing_is_made() {
    let outside = TempDir::new().unwrap();
    let tree = outside.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for (name, reason) in [
        (&b"../escaped"[..], Refusal::Parent),
        (b"a/../../escaped", Refusal::Parent),
        (b"/tmp/escaped", Refusal::Absolute),
    ] {
        for kind in [EntryType::Regular, EntryType::Directory, EntryType::Symlink] {
            let (entry, why) =
                refusal(into(&tree, &archive(&[(kind, name, b"x", b"")])[..], &Unpack::default()));
            assert_eq!((entry.as_bytes(), why), (name, reason));
        }
    }
    assert_eq!(fs::read_dir(&tree).unwrap().count(), 0);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn no_symbolic_link_is_gone_through() {
    let outside = TempDir::new().unwrap();
    fs::create_dir(outside.path().join("victim")).unwrap();
    fs::write(outside.path().join("victim/file"), "mine").unwrap();
    let victim = outside.path().join("victim");
    let victim = victim.as_os_str().as_encoded_bytes();
    for target in [victim, b"../victim", b"sub", b"/proc/self/cwd"] {
        for (kind, name) in [
            (EntryType::Regular, &b"link/file"[..]),
            (EntryType::Directory, b"link/"),
            (EntryType::Directory, b"link/new"),
            (EntryType::Symlink, b"link/new"),
            (EntryType::Link, b"link/new"),
        ] {
            let tree = TempDir::new_in(outside.path()).unwrap();
            let bytes = archive(&[
                (EntryType::Directory, b"sub", b"", b""),
                (EntryType::Regular, b"inside", b"", b"i"),
                (EntryType::Symlink, b"link", target, b""),
                (kind, name, b"inside", if kind == EntryType::Regular { b"evil" } else { b"" }),
            ]);
            let (entry, why) = refusal(into(tree.path(), &bytes[..], &Unpack::default()));
            assert_eq!(why, Refusal::ThroughSymlink, "{kind:?} {entry}");
        }
    }
    assert_eq!(fs::read_dir(outside.path().join("victim")).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(outside.path().join("victim/file")).unwrap(), "mine");
}

#[test]
fn a_link_that_is_in_the_place_of_a_file_is_replaced_and_not_written_through() {
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("victim"), "mine").unwrap();
    let tree = outside.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let bytes = archive(&[
        (EntryType::Symlink, b"name", b"../victim", b""),
        (EntryType::Regular, b"name", b"", b"new"),
    ]);
    into(&tree, &bytes[..], &Unpack::default()).unwrap();
    assert_eq!(fs::read_to_string(outside.path().join("victim")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(tree.join("name")).unwrap(), "new");
}

#[test]
fn a_pipe_or_socket_is_never_replaced() {
    let tree = TempDir::new().unwrap();
    let pipe = tree.path().join("name");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    for kind in [EntryType::Regular, EntryType::Symlink, EntryType::Link] {
        let bytes = archive(&[(EntryType::Regular, b"file", b"", b""), (kind, b"name", b"file", b"")]);
        let (entry, why) = refusal(into(tree.path(), &bytes[..], &Unpack::default()));
        assert_eq!((entry.as_str(), why), ("name", Refusal::Special));
    }
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    let _socket = std::os::unix::net::UnixListener::bind(tree.path().join("socket")).unwrap();
    let bytes = archive(&[(EntryType::Regular, b"socket", b"", b"")]);
    assert_eq!(refusal(into(tree.path(), &bytes[..], &Unpack::default())).1, Refusal::Special);
}

#[test]
fn hard_links_stay_among_the_files_of_the_tree() {
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("victim"), "mine").unwrap();
    let tree = outside.path().join("tree");
    fs::create_dir(&tree).unwrap();
    symlink("../victim", tree.join("link")).unwrap();
    symlink("..", tree.join("up")).unwrap();
    for target in [&b"../victim"[..], b"/etc/passwd", b"link", b"up/victim", b"missing", b"", b"."] {
        let bytes = archive(&[(EntryType::Link, b"new", target, b"")]);
        let (entry, why) = refusal(into(&tree, &bytes[..], &Unpack::default()));
        assert_eq!((entry.as_str(), why), ("new", Refusal::HardLinkTarget), "{}", target.escape_ascii());
    }
}

#[test]
fn devices_pipes_and_unknown_kinds_are_refused() {
    let tree = TempDir::new().unwrap();
    for kind in [b'3', b'4', b'6', b'S', b'V', b'?'] {
        let bytes = archive(&[(EntryType::new(kind), b"odd", b"", b"")]);
        assert_eq!(
            refusal(into(tree.path(), &bytes[..], &Unpack::default())),
            ("odd".into(), Refusal::Kind(kind))
        );
    }
}

#[test]
fn a_target_out_of_the_tree_is_refused_where_that_is_asked_for() {
    let tree = TempDir::new().unwrap();
    let inside = Unpack { symlinks: Symlinks::Inside, ..Unpack::default() };
    for target in [&b"/etc/passwd"[..], b"../x", b"d/../../x"] {
        let bytes = archive(&[(EntryType::Symlink, b"link", target, b"")]);
        assert_eq!(refusal(into(tree.path(), &bytes[..], &inside)).1, Refusal::SymlinkTarget);
        into(tree.path(), &bytes[..], &Unpack::default()).unwrap();
    }
    let bytes = archive(&[(EntryType::Symlink, b"d/link", b"../x", b"")]);
    into(tree.path(), &bytes[..], &inside).unwrap();
}

#[test]
fn special_bits_are_dropped() {
    let tree = TempDir::new().unwrap();
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_mode(0o7755);
    header.set_size(0);
    builder.append_data(&mut header, "program", io::empty()).unwrap();
    into(tree.path(), &builder.into_inner().unwrap()[..], &Unpack::default()).unwrap();
    assert_eq!(fs::metadata(tree.path().join("program")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn an_archive_that_ends_early_is_an_error() {
    let tree = TempDir::new().unwrap();
    let bytes =
        archive(&[(EntryType::Regular, b"file", b"", &[1; 2000]), (EntryType::Regular, b"x", b"", b"")]);
    for cut in [600, 1500, 2511, 2600, 3000] {
        let outcome = into(tree.path(), &bytes[..cut], &Unpack::default());
        assert!(matches!(outcome, Err(Error::Archive(Malformed::Early))), "cut at {cut}: {outcome:?}");
    }
}

#[test]
fn what_is_no_archive_is_called_that_and_nothing_of_it_is_told() {
    let tree = TempDir::new().unwrap();
    let good = archive(&[(EntryType::Regular, b"file", b"", b"1")]);
    let mut damaged = good.clone();
    damaged.truncate(1024);
    damaged.extend([b'F'; 1024]);
    let followed = [&good[..], &vec![0; 5 << 20]].concat();
    let gzip = [&[0x1f, 0x8b, 8, 0][..], &[0xc6; 2000]].concat();
    for (bytes, wrong) in [
        (&b"text"[..], Malformed::NoTar),
        (&good[..100], Malformed::NoTar),
        (&[b'F'; 2000], Malformed::NoTar),
        (&gzip, Malformed::Compressed("gzip")),
        (&gzip[..20], Malformed::Compressed("gzip")),
        (b"BZh91AY", Malformed::Compressed("bzip2")),
        (b"\xfd7zXZ\0\0", Malformed::Compressed("xz")),
        (b"\x28\xb5\x2f\xfd\0", Malformed::Compressed("zstd")),
        (&damaged, Malformed::Header),
        (&followed, Malformed::Followed),
    ] {
        let outcome = into(tree.path(), bytes, &Unpack::default());
        match outcome {
            Err(Error::Archive(is)) => assert_eq!(is, wrong),
            other => panic!("{wrong:?}: {other:?}"),
        }
    }
    assert!(into(tree.path(), &b""[..], &Unpack::default()).is_ok(), "nothing is an archive of nothing");
}

/// A stream that breaks is no archive that is wrong.
#[test]
fn an_error_of_the_stream_stays_one() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionAborted.into())
        }
    }
    let tree = TempDir::new().unwrap();
    let bytes = archive(&[(EntryType::Regular, b"file", b"", &[1; 2000])]);
    for at in [0, 100, 512, 1000, 2560, 3000] {
        let outcome = into(tree.path(), bytes[..at].chain(Broken), &Unpack::default());
        match outcome {
            Err(Error::Read(error)) => assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted, "{at}"),
            other => panic!("{at}: {other:?}"),
        }
    }
}

#[test]
fn limits_hold() {
    let tree = TempDir::new().unwrap();
    let one = (EntryType::Regular, &b"file"[..], &b""[..], &[1_u8; 100][..]);
    let entries = Unpack { max_entries: 2, ..Unpack::default() };
    let outcome = into(tree.path(), &archive(&[one, one, one])[..], &entries);
    assert!(matches!(outcome, Err(Error::Limit { what: "entries", limit: 2 })), "{outcome:?}");
    let bytes = Unpack { max_bytes: 150, ..Unpack::default() };
    let outcome = into(tree.path(), &archive(&[one, one])[..], &bytes);
    assert!(matches!(outcome, Err(Error::Limit { what: "bytes", limit: 150 })), "{outcome:?}");
}

/// A long name that announces more than memory has: refused by its header.
#[test]
fn a_huge_long_name_is_not_read() {
    let tree = TempDir::new().unwrap();
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader]
    {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(1 << 40);
        header.as_old_mut().name[..4].copy_from_slice(b"long");
        header.set_cksum();
        let endless = io::Cursor::new(*header.as_bytes()).chain(io::repeat(b'x'));
        assert_eq!(
            refusal(into(tree.path(), endless, &Unpack::default())),
            ("long".into(), Refusal::Extended)
        );
    }
}

#[test]
fn a_full_disk_says_so() {
    let error = Error::Entry { entry: "x".into(), source: io::ErrorKind::StorageFull.into() };
    assert!(error.is_full() && !error.is_wrong_path());
}

#[test]
fn directories_are_made_where_they_are_missing() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("a/b/c");
    make_directories(&path, None).unwrap();
    make_directories(&path, None).unwrap();
    assert!(path.is_dir());
    fs::write(root.path().join("file"), "").unwrap();
    for path in ["file/x", "file"] {
        let error = make_directories(&root.path().join(path), None).unwrap_err();
        assert!(error.is_wrong_path(), "{error:?}");
    }
}

#[test]
fn arbitrary_archives_stay_inside() {
    let seed = archive(&[
        (EntryType::Directory, b"d", b"", b""),
        (EntryType::Symlink, b"d/l", b"..", b""),
        (EntryType::Regular, b"d/f", b"", b"content"),
        (EntryType::Link, b"h", b"d/f", b""),
    ]);
    proptest::proptest!(|(flips in proptest::collection::vec((0..seed.len(), proptest::num::u8::ANY), 0..6))| {
        let outside = TempDir::new().unwrap();
        let tree = outside.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let mut bytes = seed.clone();
        for (at, value) in flips {
            bytes[at] = value;
        }
        // Checksums made right again, so that more than the first check is reached.
        for block in bytes.chunks_exact_mut(512) {
            if &block[257..262] == b"ustar" {
                let mut header = Header::from_byte_slice(block).clone();
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
        }
        tree::fuzz_targets::untar(fs::File::open(&tree).unwrap().as_fd(), &bytes);
        proptest::prop_assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    });
}

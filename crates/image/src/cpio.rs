//! The archive format of an initramfs ("newc"), written only.

/// An archive in memory. Names and contents are ours and small; a u32 holds every size.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_000;

/// A member is larger than the format can say.
#[derive(Debug)]
pub(crate) struct TooLarge;

impl Archive {
    /// Adds a directory of mode 0755.
    pub(crate) fn directory(&mut self, name: &str) {
        self.header(name, DIRECTORY | 0o755, 0, (0, 0));
    }

    /// Adds a character device of mode 0600.
    pub(crate) fn device(&mut self, name: &str, major: u32, minor: u32) {
        self.header(name, CHARACTER | 0o600, 0, (major, minor));
    }

    /// Adds a file with permission bits `mode`.
    pub(crate) fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<(), TooLarge> {
        let size = u32::try_from(content.len()).map_err(|_| TooLarge)?;
        self.header(name, FILE | (mode & 0o7777), size, (0, 0));
        self.bytes.extend_from_slice(content);
        self.pad(4);
        Ok(())
    }

    /// Ends the archive; another one may follow it, the kernel unpacks them all.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.header("TRAILER!!!", 0, 0, (0, 0));
        self.pad(512);
        self.bytes
    }

    fn header(&mut self, name: &str, mode: u32, size: u32, device: (u32, u32)) {
        // The inode only has to differ between members; a trailer has none.
        let inode = if mode == 0 { 0 } else { self.entries + 1 };
        self.entries += 1;
        let links = if mode & DIRECTORY != 0 { 2 } else { 1 };
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0]
            .map(|f| format!("{f:08X}"));
        self.bytes.extend_from_slice(b"070701");
        self.bytes.extend_from_slice(fields.concat().as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad(4);
    }

    fn pad(&mut self, to: usize) {
        let size = self.bytes.len().next_multiple_of(to);
        self.bytes.resize(size, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_bytes_of_the_format() {
        let mut archive = Archive::default();
        archive.directory("d");
        archive.device("d/c", 5, 1);
        archive.file("d/f", 0o755, b"hello").unwrap();
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 512, 0);
        let text: String = bytes.iter().map(|b| if *b == 0 { '.' } else { char::from(*b) }).collect();
        let expected = concat!(
            "07070100000001000041ED000000000000000000000002000000000000000000000000000000000000000000000000",
            "0000000200000000d.",
            "0707010000000200002180000000000000000000000001000000000000000000000000000000000000000500000001",
            "0000000400000000d/c...",
            "070701000000030000",
            "81ED000000000000000000000001000000000000000500000000000000000000000000000000",
            "0000000400000000d/f...hello...",
            "070701000000000000000000000000000000000000000100000000000000000000000000000000000000000000",
            "00000000000B00000000TRAILER!!!.",
        );
        assert_eq!(&text[..expected.len()], expected);
        assert!(text[expected.len()..].bytes().all(|b| b == b'.'));
    }

    #[test]
    fn the_systems_cpio_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = Archive::default();
        archive.directory("lib");
        archive.file("lib/x", 0o644, &[7; 1001]).unwrap();
        std::fs::write(dir.path().join("a"), archive.finish()).unwrap();
        let listed = std::process::Command::new("cpio")
            .args(["-t", "--quiet"])
            .stdin(std::fs::File::open(dir.path().join("a")).unwrap())
            .output();
        // The tool is no requirement of a build, so a machine may lack it; the bytes are tested above.
        if let Ok(listed) = listed {
            assert_eq!(String::from_utf8(listed.stdout).unwrap(), "lib\nlib/x\n");
        }
    }
}

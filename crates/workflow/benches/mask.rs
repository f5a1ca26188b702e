//! How fast masking is: rows of a log through a stream with fifty secrets, on one core.
//!
//! Run with `cargo bench -p workflow --bench mask`. It says rows a second, and how long that takes beside one
//! pass of `memchr` for the line feeds of the same text, which nothing that reads rows can do without.
#![expect(clippy::print_stdout, reason = "a benchmark says what it measured")]

use std::time::{Duration, Instant};

use workflow::mask::{Masker, Stream};

/// As the guest's output arrives.
const CHUNK: usize = 64 << 10;

/// How often each is measured; the best counts.
const RUNS: usize = 7;

fn main() {
    let secrets: Vec<String> = (0..50).map(secret).collect();
    let masker = Masker::new(secrets.iter().map(String::as_str)).unwrap_or_default();
    for (name, text) in
        [("a build's log", build_log(&secrets, 200_000)), ("base64, all of it", base64_log(200_000))]
    {
        let rows = text.bytes().filter(|&byte| byte == b'\n').count();
        let plain = best(|| memchr::memchr_iter(b'\n', text.as_bytes()).count());
        let masked = best(|| mask(&masker, &text));
        let per_second = rows as f64 / masked.as_secs_f64();
        println!(
            "{name}: {rows} rows, {} MiB: {per_second:.0} rows/s ({:.0} MiB/s), {:.0} times a memchr pass ({plain:?})",
            text.len() >> 20,
            text.len() as f64 / masked.as_secs_f64() / 1048576.0,
            masked.as_secs_f64() / plain.as_secs_f64(),
        );
    }
}

/// Passwords, tokens, and every tenth a key of several lines.
fn secret(index: usize) -> String {
    let mut random = Random(index as u64 + 1);
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-=!@$";
    let mut word = |length: usize| -> String {
        (0..length).map(|_| char::from(alphabet[random.below(alphabet.len())])).collect()
    };
    if index.is_multiple_of(10) {
        let lines: Vec<String> = (0..25).map(|_| word(64)).collect();
        return format!("-----BEGIN KEY-----\n{}\n-----END KEY-----\n", lines.join("\n"));
    }
    word(12 + index)
}

fn build_log(secrets: &[String], rows: usize) -> String {
    let mut random = Random(99);
    let mut text = String::new();
    for row in 0..rows {
        match random.below(40) {
            0 => text.push_str(&format!("curl -H 'authorization: {}' https://host/{row}", secrets[row % 50])),
            1..10 => text.push_str(&format!("   Compiling crate-{row} v1.{}.0 (/workspace/a/b)", row % 90)),
            10..20 => text.push_str(&format!("test module::name_of_test_{row} ... ok")),
            20..30 => {
                text.push_str(&format!("2026-01-02T03:04:05.678Z INFO worker{{id={row}}} done in 12 ms"))
            }
            _ => text.push_str(&format!(
                "cc -O2 -Wall -Iinclude -c src/file_{row}.c -o build/file_{row}.o -MMD -MP"
            )),
        }
        text.push('\n');
    }
    text
}

fn base64_log(rows: usize) -> String {
    let mut random = Random(7);
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for _ in 0..rows {
        text.extend((0..76).map(|_| char::from(alphabet[random.below(64)])));
        text.push('\n');
    }
    text
}

fn mask(masker: &Masker, text: &str) -> usize {
    let mut stream = Stream::new();
    let mut out = String::new();
    let mut length = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(rest.floor_char_boundary(CHUNK));
        stream.push(masker, chunk, &mut out);
        length += out.len();
        out.clear();
        rest = behind;
    }
    stream.finish(masker, &mut out);
    length + out.len()
}

fn best<T>(run: impl Fn() -> T) -> Duration {
    let once = || {
        let started = Instant::now();
        std::hint::black_box(run());
        started.elapsed()
    };
    (0..RUNS).map(|_| once()).min().unwrap_or_default()
}

/// Xorshift: the same text in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap_or_default()
    }
}

//! The gate of a VM's namespace: what lets it forward, as the one message that the kernel takes.
//!
//! Purpose: a namespace that was prepared with its policy is leased for the price of a system call, not of a program. It is
//! what nft sends for [`OPEN`].
//! Owner: nobody; `router` sends it through the helper.
//!
//! Invariant: one transaction, answered: both families, or none and an error.

/// The same as text for nft.
pub(crate) const OPEN: &str = "add element inet ampoule leased { ipv4, ipv6 }\n";

const NFT: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_SET_ELEMENT: u16 = NFT << 8 | 12;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const CREATE: u16 = 0x400;
const UNSPEC: u8 = 0;
const INET: u8 = 1;
/// The elements: the families, as netfilter numbers them.
const FAMILIES: [u8; 2] = [2, 10];
const NESTED: u16 = 0x8000;
/// Of the message: table, set, elements. Of the list: one. Of an element: its key. Of that: its value.
const TABLE: u16 = 1;
const SET: u16 = 2;
const ELEMENTS: u16 = 3;
const ELEMENT: u16 = 1;
const KEY: u16 = 1;
const VALUE: u16 = 1;

/// A batch for a socket of netfilter in the namespace; one answer comes, or more where it fails.
pub(crate) fn open() -> Vec<u8> {
    let elements: Vec<u8> = FAMILIES
        .iter()
        .flat_map(|family| {
            attribute(NESTED | ELEMENT, &attribute(NESTED | KEY, &attribute(VALUE, &[*family])))
        })
        .collect();
    let body = [
        attribute(TABLE, b"ampoule\0"),
        attribute(SET, b"leased\0"),
        attribute(NESTED | ELEMENTS, &elements),
    ]
    .concat();
    [
        message(BATCH_BEGIN, REQUEST, (UNSPEC, NFT), &[]),
        message(NEW_SET_ELEMENT, REQUEST | CREATE | ACK, (INET, 0), &body),
        message(BATCH_END, REQUEST, (UNSPEC, NFT), &[]),
    ]
    .concat()
}

/// `struct nlmsghdr`, `struct nfgenmsg`, and the rest.
fn message(kind: u16, flags: u16, (family, resource): (u8, u16), body: &[u8]) -> Vec<u8> {
    const HEADERS: usize = 20;
    let length = u32::try_from(HEADERS + body.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    // a number and a port, which nobody needs
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[family, 0]);
    bytes.extend_from_slice(&resource.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// `struct nlattr` and its value, filled up to the next multiple of four.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn it_is_what_nft_sends() {
        // as seen of nft 1.0.6, but for its numbers, and the number that it gives to a set of the same batch
        let begin = [&[20, 0, 0, 0, 0x10, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10][..]];
        let element = [
            &[80, 0, 0, 0, 0x0c, 0x0a, 5, 4, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0][..],
            b"\x0c\0\x01\0ampoule\0\x0b\0\x02\0leased\0\0\x24\0\x03\x80",
            b"\x10\0\x01\x80\x0c\0\x01\x80\x05\0\x01\0\x02\0\0\0",
            b"\x10\0\x01\x80\x0c\0\x01\x80\x05\0\x01\0\x0a\0\0\0",
        ];
        let end = [&[20, 0, 0, 0, 0x11, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10][..]];
        assert_eq!(open(), [begin.concat(), element.concat(), end.concat()].concat());
    }
}

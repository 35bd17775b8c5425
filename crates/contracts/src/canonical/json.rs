//! The bytes of canonical JSON.

use std::cmp::Ordering;

use super::encoder::{Container, Form};

pub(super) struct Json;

impl Form for Json {
    fn null(out: &mut Vec<u8>) {
        out.extend_from_slice(b"null");
    }

    fn boolean(out: &mut Vec<u8>, value: bool) {
        out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn integer(out: &mut Vec<u8>, value: i64) {
        let mut rest = value.unsigned_abs();
        // Sixteen digits at most, and a sign.
        let mut text = [0; 20];
        let mut at = text.len();
        loop {
            at -= 1;
            text[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            at -= 1;
            text[at] = b'-';
        }
        out.extend_from_slice(&text[at..]);
    }

    fn float(out: &mut Vec<u8>, value: f64) {
        // RFC 8785 takes the number format of ECMAScript.
        out.extend_from_slice(ryu_js::Buffer::new().format_finite(value).as_bytes());
    }

    fn text(out: &mut Vec<u8>, value: &str) {
        out.push(b'"');
        // Without branches, so that it is done many bytes at a time; hardly any text holds an escape.
        if !value.bytes().fold(false, |found, byte| found | (byte < 0x20) | (byte == b'"') | (byte == b'\\')) {
            out.extend_from_slice(value.as_bytes());
            out.push(b'"');
            return;
        }
        let mut plain = 0;
        for (at, byte) in value.bytes().enumerate() {
            let escape: &[u8] = match byte {
                b'"' => br#"\""#,
                b'\\' => br"\\",
                0x08 => br"\b",
                0x09 => br"\t",
                0x0a => br"\n",
                0x0c => br"\f",
                0x0d => br"\r",
                0x00..0x20 => {
                    const HEX: &[u8; 16] = b"0123456789abcdef";
                    &[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]]
                }
                _ => continue,
            };
            out.extend_from_slice(&value.as_bytes()[plain..at]);
            out.extend_from_slice(escape);
            plain = at + 1;
        }
        out.extend_from_slice(&value.as_bytes()[plain..]);
        out.push(b'"');
    }

    fn open(out: &mut Vec<u8>, kind: Container, _: usize) {
        out.push(if kind == Container::List { b'[' } else { b'{' });
    }

    fn separate(out: &mut Vec<u8>) {
        out.push(b',');
    }

    fn assign(out: &mut Vec<u8>) {
        out.push(b':');
    }

    fn close(out: &mut Vec<u8>, kind: Container) {
        out.push(if kind == Container::List { b']' } else { b'}' });
    }

    fn compare(a: &str, b: &str) -> Ordering {
        match a.bytes().zip(b.bytes()).find(|(a, b)| a != b) {
            None => a.len().cmp(&b.len()),
            // Where ASCII differs, code units and bytes are the same.
            Some((a, b)) if a.is_ascii() && b.is_ascii() => a.cmp(&b),
            Some(_) => a.encode_utf16().cmp(b.encode_utf16()),
        }
    }
}

//! UUIDs as text.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Writes the sixteen bytes of a UUID in lower case, with hyphens.
pub(crate) fn write_uuid(value: &[u8], out: &mut String) {
    for (at, byte) in value.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push(char::from(HEX[usize::from(byte >> 4)]));
        out.push(char::from(HEX[usize::from(byte & 15)]));
    }
}

//! `Accept-Encoding`, as far as one coding goes (RFC 9110, section 12.5.3).

/// Whether the value of an `Accept-Encoding` header asks for zstd by name and does not weigh it as zero.
/// `*` is not taken as asking for it: what a client does not name it may not know.
pub fn accepts_zstd(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|coding| {
        let mut parts = coding.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"zstd"))
            && !parts.any(is_zero_weight)
    })
}

/// `q=0`, with any number of decimals.
fn is_zero_weight(parameter: &[u8]) -> bool {
    let Some((name, weight)) = parameter.split_at_checked(3) else { return false };
    name.eq_ignore_ascii_case(b"q=0") && !weight.iter().any(|byte| matches!(byte, b'1'..=b'9'))
}

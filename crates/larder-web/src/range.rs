//! `Range`, as far as a NAR or a file needs it: one range of bytes (RFC 9110, section 14).

use std::ops::Range;

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};

use crate::error::WebError;

/// The part of `size` bytes that is asked for; nothing for all of them. What is not one well-formed
/// range of bytes is passed over, as the RFC has it; several ranges are answered with the whole.
pub(crate) fn requested(
    headers: &HeaderMap,
    size: u64,
    etag: &str,
) -> Result<Option<Range<u64>>, WebError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::IF_RANGE).is_some_and(|known| known != etag) {
        return Ok(None);
    }
    match text(header::RANGE).and_then(parse) {
        None => Ok(None),
        Some(Spec::From(first, last)) => {
            let end = last.map_or(size, |last| last.saturating_add(1).min(size));
            if first < size { Ok(Some(first..end)) } else { Err(WebError::Range { size }) }
        }
        Some(Spec::Last(0)) => Err(WebError::Range { size }),
        Some(Spec::Last(length)) => Ok(Some(size.saturating_sub(length)..size)),
    }
}

/// Says in a response which part of `size` bytes it holds, all of them for nothing, and that parts may
/// be asked for.
pub(crate) fn describe(response: &mut Response, part: Option<Range<u64>>, size: u64, etag: &str) {
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let length = part.as_ref().map_or(size, |part| part.end - part.start);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(part) = part {
        // Never empty: an empty range is not satisfiable.
        let text = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        if let Ok(text) = HeaderValue::from_str(&text) {
            headers.insert(header::CONTENT_RANGE, text);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
}

enum Spec {
    From(u64, Option<u64>),
    Last(u64),
}

fn parse(value: &str) -> Option<Spec> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    // Stricter than u64's own parser, which takes a sign.
    let number = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten()
    };
    match (first, last) {
        ("", last) => Some(Spec::Last(number(last)?)),
        (first, "") => Some(Spec::From(number(first)?, None)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::From(first, Some(last)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(range: &str, if_range: Option<&'static str>) -> Result<Option<Range<u64>>, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_str(range).unwrap());
        if let Some(etag) = if_range {
            headers.insert(header::IF_RANGE, HeaderValue::from_static(etag));
        }
        requested(&headers, 100, "\"e\"").map_err(|error| error.to_string())
    }

    #[test]
    fn one_range_of_bytes_is_understood_in_its_three_forms() {
        assert_eq!(ask("bytes=10-", None), Ok(Some(10..100)));
        assert_eq!(ask("bytes=10-19", None), Ok(Some(10..20)));
        assert_eq!(ask("bytes=90-500", None), Ok(Some(90..100)));
        assert_eq!(ask("bytes=-7", None), Ok(Some(93..100)));
        assert_eq!(ask("bytes=-700", None), Ok(Some(0..100)));
    }

    #[test]
    fn what_is_not_one_range_of_bytes_gets_the_whole() {
        for odd in ["bytes=1-2,4-5", "bytes=5-1", "bytes=+1-", "bytes=a-", "lines=1-", "bytes="] {
            assert_eq!(ask(odd, None), Ok(None), "{odd}");
        }
        assert_eq!(ask("bytes=99999999999999999999-", None), Ok(None));
    }

    #[test]
    fn a_range_behind_the_end_is_refused() {
        assert!(ask("bytes=100-", None).is_err());
        assert!(ask("bytes=-0", None).is_err());
    }

    #[test]
    fn another_etag_gets_the_whole() {
        assert_eq!(ask("bytes=10-", Some("\"other\"")), Ok(None));
        assert_eq!(ask("bytes=10-", Some("\"e\"")), Ok(Some(10..100)));
    }
}

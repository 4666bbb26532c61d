//! What HTTP says about a thing that is read in pieces: ranges, conditions, tags (RFC 9110 sections 8, 13 and 14).
//! Decides which bytes are wanted; the caller brings them.

use crate::range::{Wanted, wanted};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::ops::Range;

/// A thing with a length, whose bytes are the same for as long as its tag is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// Bytes.
    pub length: u64,
    /// Strong tag, without its quotes: letters, digits, `:` and `-`.
    pub tag: String,
    /// What it is.
    pub media_type: &'static str,
    /// True when no cache may keep it.
    pub secret: bool,
}

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These bytes; the status says whether they are all.
    Bytes(StatusCode, Range<u64>),
    /// No bytes.
    Bare(StatusCode),
}

impl Entity {
    /// What a GET or HEAD with `headers` is answered with.
    pub fn answer(&self, headers: &HeaderMap) -> Answer {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        if text(header::IF_MATCH).is_some_and(|tags| !self.is_among(tags)) {
            return Answer::Bare(StatusCode::PRECONDITION_FAILED);
        }
        if text(header::IF_NONE_MATCH).is_some_and(|tags| self.is_among(tags)) {
            return Answer::Bare(StatusCode::NOT_MODIFIED);
        }
        // Whoever holds a piece of something else must get the whole of this.
        let same = headers.get(header::IF_RANGE).is_none_or(|tag| tag.as_bytes() == self.quoted().as_bytes());
        match wanted(text(header::RANGE).filter(|_| same), self.length) {
            Wanted::Whole => Answer::Bytes(StatusCode::OK, 0..self.length),
            Wanted::Part(range) => Answer::Bytes(StatusCode::PARTIAL_CONTENT, range),
            Wanted::Beyond => Answer::Bare(StatusCode::RANGE_NOT_SATISFIABLE),
        }
    }

    /// The response to `answer`; `body` brings the bytes, and is not asked for any when there are none to send.
    pub fn respond(&self, method: &Method, answer: &Answer, body: impl FnOnce(Range<u64>) -> Body) -> Response {
        let (status, range) = match answer {
            Answer::Bytes(status, range) => (*status, range.clone()),
            Answer::Bare(status) => (*status, 0..0),
        };
        let body = match method {
            &Method::HEAD => Body::empty(),
            _ if range.is_empty() => Body::empty(),
            _ => body(range.clone()),
        };
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        let mut say = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        say(header::ACCEPT_RANGES, "bytes");
        say(header::ETAG, &self.quoted());
        say(header::CACHE_CONTROL, if self.secret { "no-store" } else { "no-transform" });
        match status {
            StatusCode::RANGE_NOT_SATISFIABLE => say(header::CONTENT_RANGE, &format!("bytes */{}", self.length)),
            StatusCode::PARTIAL_CONTENT => {
                let (first, last) = (range.start, range.end.saturating_sub(1));
                say(header::CONTENT_RANGE, &format!("bytes {first}-{last}/{}", self.length));
            }
            _ => {}
        }
        if matches!(answer, Answer::Bytes(..)) {
            say(header::CONTENT_TYPE, self.media_type);
            say(header::CONTENT_LENGTH, &(range.end - range.start).to_string());
        }
        response
    }

    fn quoted(&self) -> String {
        format!("\"{}\"", self.tag)
    }

    fn is_among(&self, tags: &str) -> bool {
        let ours = self.quoted();
        tags.trim() == "*" || tags.split(',').any(|tag| tag.trim() == ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entity(length: u64) -> Entity {
        Entity { length, tag: "sha256:ab".into(), media_type: "application/octet-stream", secret: false }
    }

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).expect("a header");
        pairs.iter().map(|(name, text)| (name.clone(), value(text))).collect()
    }

    #[test]
    fn conditions_decide_between_a_piece_the_whole_and_nothing() {
        use Answer::{Bare, Bytes};
        use header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
        let part = Bytes(StatusCode::PARTIAL_CONTENT, 5..10);
        let whole = Bytes(StatusCode::OK, 0..100);
        for (pairs, expected) in [
            (vec![], whole.clone()),
            (vec![(RANGE, "bytes=5-9")], part.clone()),
            (vec![(RANGE, "bytes=5-9"), (IF_RANGE, "\"sha256:ab\"")], part.clone()),
            (vec![(RANGE, "bytes=5-9"), (IF_RANGE, "W/\"sha256:ab\"")], whole.clone()),
            (vec![(RANGE, "bytes=5-9"), (IF_RANGE, "\"another\"")], whole.clone()),
            (vec![(RANGE, "bytes=5-9"), (IF_RANGE, "Sun, 01 Mar 2026 12:00:00 GMT")], whole),
            (vec![(RANGE, "bytes=100-")], Bare(StatusCode::RANGE_NOT_SATISFIABLE)),
            (vec![(IF_NONE_MATCH, "\"x\", \"sha256:ab\"")], Bare(StatusCode::NOT_MODIFIED)),
            (vec![(IF_MATCH, "\"x\"")], Bare(StatusCode::PRECONDITION_FAILED)),
            (vec![(IF_MATCH, "*"), (RANGE, "bytes=5-9")], part),
        ] {
            assert_eq!(entity(100).answer(&headers(&pairs)), expected, "{pairs:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_range_is_asked_for_no_byte_that_is_not_there_is_promised(
            length in 0_u64..1000,
            text in "(bytes)?[ =]{0,2}[-0-9, a-z=]{0,24}",
        ) {
            match entity(length).answer(&headers(&[(header::RANGE, &text)])) {
                Answer::Bytes(StatusCode::PARTIAL_CONTENT, range) => {
                    prop_assert!(range.start < range.end && range.end <= length);
                }
                Answer::Bytes(status, range) => prop_assert_eq!((status, range), (StatusCode::OK, 0..length)),
                Answer::Bare(status) => prop_assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE),
            }
        }
    }
}

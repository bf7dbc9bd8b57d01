//! The header `Forwarded` as a list of elements (RFC 7239, section 4).
//!
//! Promise: a value that breaks the grammar gives nothing at all, since whoever wrote half of it may not
//! be the one whom the other half is believed for. What the values mean it does not know.

/// What one proxy said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// `for`: who asked it.
    pub(super) node: Option<String>,
    /// `proto`: how.
    pub(super) proto: Option<String>,
    /// `host`: for which host.
    pub(super) host: Option<String>,
}

/// The elements, the one nearest to the client first. Several lines of the header are one, joined by commas.
pub(super) fn parse(text: &str) -> Option<Vec<Element>> {
    let mut rest = text;
    let mut elements = Vec::new();
    let mut element = None;
    loop {
        rest = rest.trim_start();
        // A list may have empty elements, and an element empty pairs (RFC 9110, section 5.6.1).
        if !rest.is_empty() && !rest.starts_with([',', ';']) {
            let (name, after) = rest.split_once('=')?;
            let (value, after) = value(after)?;
            element.get_or_insert_with(Element::default).note(name, value)?;
            rest = after.trim_start();
        }
        match rest.chars().next() {
            Some(';') => {}
            Some(',') => elements.extend(element.take()),
            Some(_) => return None,
            None => {
                elements.extend(element);
                return Some(elements);
            }
        }
        rest = rest.get(1..)?;
    }
}

impl Element {
    /// Each parameter is said once at most.
    fn note(&mut self, name: &str, value: String) -> Option<()> {
        let place = match name.to_ascii_lowercase().as_str() {
            "for" => &mut self.node,
            "proto" => &mut self.proto,
            "host" => &mut self.host,
            other => return is_token(other).then_some(()),
        };
        place.replace(value).is_none().then_some(())
    }
}

/// A token or a quoted string, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ';', ' ', '\t']).unwrap_or(text.len());
        let (token, rest) = text.split_at_checked(end)?;
        // Wider than the grammar by what proxies write without the quotes it takes: ports and IPv6.
        let good =
            !token.is_empty() && token.chars().all(|c| is_token_char(c) || ":[]".contains(c));
        return good.then(|| (token.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(characters.next()?),
            other => value.push(other),
        }
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_token_char)
}

/// RFC 9110, section 5.6.2.
fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element(node: &str, proto: Option<&str>, host: Option<&str>) -> Element {
        let text = |text: &str| Some(text.to_owned());
        Element { node: text(node), proto: proto.and_then(text), host: host.and_then(text) }
    }

    #[test]
    fn elements_are_read_in_their_order() {
        assert_eq!(
            parse("for=192.0.2.60;proto=http;by=203.0.113.43"),
            Some(vec![element("192.0.2.60", Some("http"), None)])
        );
        assert_eq!(
            parse("FOR=\"[2001:db8::1]:47\" ;; Host=a.example , ,for=\"q\\\"\\\\\";secret=x"),
            Some(vec![
                element("[2001:db8::1]:47", None, Some("a.example")),
                element("q\"\\", None, None)
            ])
        );
        assert_eq!(parse("by=x, for=a").map(|all| all.len()), Some(2));
        // A comma within quotes separates nothing.
        assert_eq!(parse("for=\"a, for=b\""), Some(vec![element("a, for=b", None, None)]));
        assert_eq!(parse(" , ;"), Some(Vec::new()));
    }

    #[test]
    fn what_breaks_the_grammar_gives_nothing() {
        for broken in [
            "for",
            "for=",
            "=a",
            "for=\"a",
            "for=\"a\\",
            "for=a b",
            "for=a;for=b",
            "for =a",
            "for=\"a\"b",
            "for=a=b",
            "for=<a>",
            "a b=c",
            "for=a, for",
        ] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            elements in prop::collection::vec(("[ -~]{1,20}", prop::option::of("[a-z]{1,5}"), prop::option::of("[ -~]{0,9}")), 1..5)
        ) {
            let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            let written: Vec<String> = elements.iter().map(|(node, proto, host)| {
                let mut pairs = vec![format!("for={}", quote(node))];
                pairs.extend(proto.iter().map(|proto| format!("proto={proto}")));
                pairs.extend(host.iter().map(|host| format!("host={}", quote(host))));
                pairs.join(";")
            }).collect();
            let expected: Vec<Element> = elements.iter()
                .map(|(node, proto, host)| element(node, proto.as_deref(), host.as_deref()))
                .collect();
            prop_assert_eq!(parse(&written.join(", ")), Some(expected));
        }

        #[test]
        fn nothing_makes_it_stumble(text in "\\PC{0,60}|[a-z=\";,\\\\ ]{0,60}") {
            let _ = parse(&text);
        }
    }
}

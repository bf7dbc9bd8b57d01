//! Texts of others, made such that they only say something.

use larder_formats::internal_json::strip_ansi;

/// A text that controls nothing: without escapes and control characters, but for the ends of lines and tabs, and
/// without the characters that turn the direction of what follows them.
pub fn plain(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    let harmless = |c: &char| (!c.is_control() || matches!(c, '\n' | '\t')) && !turns(*c);
    strip_ansi(text).chars().filter(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn what_others_wrote_controls_nothing() {
        assert_eq!(plain("a\u{1b}[31mb\u{1b}[0m\u{7}\u{202e}c\td\n"), "abc\td\n");
    }
}

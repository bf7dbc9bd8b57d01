//! The frame of every page for people.

use maud::{DOCTYPE, Markup, html};

/// A whole page with this title, style sheet and body.
pub(crate) fn page(title: &str, style: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (maud::PreEscaped(style)) }
            }
            body { (body) }
        }
    }
}

//! A figure: what was measured, what it is compared with, and how it is printed.

/// Which of two values is the better one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Better {
    /// Throughput.
    Higher,
    /// Seconds, microseconds, bytes of memory.
    Lower,
}

/// One line of the result.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) value: f64,
    /// Who else was measured, and what they came to.
    pub(crate) peer: Option<(&'static str, f64)>,
}

impl Figure {
    /// Above 1 Larder is the better one, whatever is measured.
    fn ratio(&self) -> Option<f64> {
        let (_, peer) = self.peer?;
        Some(match self.better {
            Better::Higher => self.value / peer,
            Better::Lower => peer / self.value,
        })
    }

    #[expect(clippy::print_stdout, reason = "this is what the program is for")]
    pub(crate) fn print(&self, json: bool) {
        println!("{}", if json { self.to_json() } else { self.to_text() });
    }

    fn to_json(&self) -> String {
        let Self { name, unit, value, .. } = self;
        let (peer, ratio) = (self.peer.map(|(_, peer)| peer), self.ratio());
        let line = serde_json::json!({
            "name": name, "unit": unit, "value": value, "peer": peer, "ratio": ratio,
        });
        line.to_string()
    }

    fn to_text(&self) -> String {
        let Self { name, unit, value, peer, .. } = self;
        let ours = format!("{name:<52} {:>8} {unit:<10}", readable(*value));
        match (peer, self.ratio()) {
            (Some((who, peer)), Some(ratio)) => {
                format!("{ours} {who:<8} {:>8}   ratio {ratio:.2}", readable(*peer))
            }
            _ => ours.trim_end().to_owned(),
        }
    }
}

/// Small values with decimals, great ones without.
fn readable(value: f64) -> String {
    if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(better: Better, peer: Option<(&'static str, f64)>) -> Figure {
        Figure { name: "figure".to_owned(), unit: "s", better, value: 2.0, peer }
    }

    #[test]
    fn a_ratio_above_one_means_that_larder_is_better() {
        assert_eq!(figure(Better::Higher, Some(("nginx", 1.0))).ratio(), Some(2.0));
        assert_eq!(figure(Better::Lower, Some(("nginx", 5.0))).ratio(), Some(2.5));
        assert_eq!(figure(Better::Lower, None).ratio(), None);
    }

    #[test]
    fn a_json_line_has_all_five_keys_with_or_without_a_peer() {
        let line: serde_json::Value =
            serde_json::from_str(&figure(Better::Lower, Some(("nginx", 3.0))).to_json()).unwrap();
        let expected = serde_json::json!(
            {"name": "figure", "unit": "s", "value": 2.0, "peer": 3.0, "ratio": 1.5}
        );
        assert_eq!(line, expected);
        let alone: serde_json::Value =
            serde_json::from_str(&figure(Better::Lower, None).to_json()).unwrap();
        assert_eq!(alone["peer"], serde_json::Value::Null);
        assert_eq!(alone.as_object().unwrap().len(), 5);
    }

    #[test]
    fn a_line_for_people_names_the_peer() {
        let text = figure(Better::Lower, Some(("file://", 3.0))).to_text();
        assert!(text.contains("file:// ") && text.ends_with("ratio 1.50"), "{text}");
    }
}

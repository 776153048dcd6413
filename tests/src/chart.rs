//! The values of the Helm chart, as the file has them: so tests do what a Deployment of the chart does. Reads just the YAML that is in
//! that file, and must never be taken for more.

use std::path::Path;

/// The lines that are not comments: how far they are indented, and their text.
#[derive(Clone, Debug)]
pub struct Chart(Vec<(usize, String)>);

impl Chart {
    /// `helm/lakefall/values.yaml`.
    pub fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/lakefall/values.yaml");
        Self::parse(&std::fs::read_to_string(path).unwrap())
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().map(|line| (line.len() - line.trim_start().len(), line.trim().to_owned()));
        Self(lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#')).collect())
    }

    /// A value by its path: `gateway.preStopSeconds`.
    pub fn text(&self, path: &str) -> &str {
        self.find(path).0.trim_matches('"')
    }

    /// The same as a number.
    pub fn number(&self, path: &str) -> f64 {
        let text = self.text(path);
        text.parse().unwrap_or_else(|error| panic!("{path} is {text:?}, and no number ({error})"))
    }

    /// The items of a list, each a mapping on a line of its own: `{type: Pods, value: 1, periodSeconds: 60}`.
    pub fn items(&self, path: &str) -> Vec<Vec<(String, String)>> {
        let item = |text: &str| {
            let inner = text.strip_prefix("- {").and_then(|rest| rest.strip_suffix('}')).unwrap_or_else(|| panic!("{path}: {text}"));
            inner.split(", ").map(|pair| pair.split_once(": ").unwrap()).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        self.find(path).1.iter().map(|(_, text)| item(text)).collect()
    }

    /// What stands behind a key, and what is below it.
    fn find(&self, path: &str) -> (&str, &[(usize, String)]) {
        let (mut rest, mut found) = (&self.0[..], "");
        for key in path.split('.') {
            let indent = rest.first().unwrap_or_else(|| panic!("the chart has no {path}")).0;
            let is_key = |(at, text): &(usize, String)| *at == indent && text.split(':').next() == Some(key);
            let at = rest.iter().position(is_key).unwrap_or_else(|| panic!("the chart has no {path}"));
            found = rest[at].1.split_once(':').unwrap().1.trim();
            let below = &rest[at + 1..];
            rest = &below[..below.iter().position(|(at, _)| *at <= indent).unwrap_or(below.len())];
        }
        (found, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_path() {
        let chart = Chart::parse("a: 1\nb:\n  # no value\n  a: two\n  c:\n    - {x: 1, y: z}\n    - {x: 2}\nc: \"3m\"\n");
        assert_eq!((chart.number("a"), chart.text("b.a"), chart.text("c")), (1.0, "two", "3m"));
        assert_eq!(chart.items("b.c").len(), 2);
        assert_eq!(chart.items("b.c")[0][1], ("y".to_owned(), "z".to_owned()));
    }

    #[test]
    fn the_chart_has_what_tests_ask_for() {
        let chart = Chart::read();
        assert!(chart.number("gateway.preStopSeconds") > 0.0 && chart.number("compactor.keda.backlogBytes") > 0.0);
        assert_eq!(chart.items("gateway.autoscaling.behavior.scaleDown.policies").len(), 1);
    }
}

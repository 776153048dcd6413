//! Prometheus's text format (https://prometheus.io/docs/instrumenting/exposition_formats/) as OTLP metrics. It reads what this very
//! process wrote: what it does not understand it leaves out.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum, metric,
};

use super::names::{Named, STATUS, named};

/// Since when counters count, and when they were read; nanoseconds of Unix time.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) began: u64,
    pub(super) now: u64,
}

/// Labels in the order in which they were written.
type Labels = Vec<(String, String)>;

/// A metric of one name, as it is read.
struct Family<'a> {
    name: &'a str,
    kind: &'a str,
    values: Vec<(Labels, f64)>,
    buckets: BTreeMap<Labels, Buckets>,
}

#[derive(Default)]
struct Buckets {
    /// Upper bounds, and how many were at most that; the last is the infinite one.
    bounds: Vec<(f64, u64)>,
    sum: f64,
    count: u64,
}

/// All metrics of a text.
pub(super) fn metrics(text: &str, times: Times) -> Vec<Metric> {
    let mut families: Vec<Family<'_>> = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            if let Some((name, kind)) = rest.split_once(' ') {
                families.push(Family { name, kind, values: Vec::new(), buckets: BTreeMap::new() });
            }
        } else if !line.starts_with('#')
            && let Some(family) = families.last_mut()
            && let Some((name, labels, value)) = sample(line)
        {
            family.add(name, labels, value);
        }
    }
    families.into_iter().filter_map(|family| family.metric(times)).collect()
}

/// Points of a metric.
pub(super) fn points(metric: &Metric) -> u64 {
    let points = match &metric.data {
        Some(metric::Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(metric::Data::Sum(sum)) => sum.data_points.len(),
        Some(metric::Data::Histogram(histogram)) => histogram.data_points.len(),
        _ => 0,
    };
    points as u64
}

/// `name{label="value"} 1`.
fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    let (name, mut rest) = line.split_at(line.find(['{', ' '])?);
    let mut labels = Labels::new();
    if let Some(mut inner) = rest.strip_prefix('{') {
        while !inner.starts_with('}') {
            let (label, quoted) = inner.split_once("=\"")?;
            let (value, after) = unquoted(quoted)?;
            labels.push((label.to_owned(), value));
            inner = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &inner[1..];
    }
    Some((name, labels, rest.trim().parse().ok()?))
}

/// A label's value up to its quote, and what follows.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match letters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

impl Family<'_> {
    fn add(&mut self, name: &str, mut labels: Labels, value: f64) {
        if self.kind != "histogram" {
            self.values.push((labels, value));
            return;
        }
        match name.strip_prefix(self.name) {
            Some("_bucket") => {
                let Some(at) = labels.iter().position(|(label, _)| label == "le") else { return };
                let Ok(bound) = labels.remove(at).1.parse() else { return };
                self.buckets.entry(labels).or_default().bounds.push((bound, value as u64));
            }
            Some("_sum") => self.buckets.entry(labels).or_default().sum = value,
            Some("_count") => self.buckets.entry(labels).or_default().count = value as u64,
            _ => {}
        }
    }

    fn metric(self, times: Times) -> Option<Metric> {
        let named = named(self.name);
        let temporality = AggregationTemporality::Cumulative as i32;
        let number = |(labels, value): (Labels, f64)| NumberDataPoint {
            attributes: attributes(labels, &named),
            start_time_unix_nano: times.began,
            time_unix_nano: times.now,
            value: Some(Number::AsDouble(value)),
            ..NumberDataPoint::default()
        };
        let data = match self.kind {
            "counter" => metric::Data::Sum(Sum {
                data_points: self.values.into_iter().map(number).collect(),
                aggregation_temporality: temporality,
                is_monotonic: true,
            }),
            "gauge" => {
                // A gauge has no beginning.
                let point = |value| NumberDataPoint { start_time_unix_nano: 0, ..number(value) };
                metric::Data::Gauge(Gauge { data_points: self.values.into_iter().map(point).collect() })
            }
            "histogram" => metric::Data::Histogram(Histogram {
                data_points: self.buckets.into_iter().map(|(labels, buckets)| buckets.point(attributes(labels, &named), times)).collect(),
                aggregation_temporality: temporality,
            }),
            // Summaries: this process makes none.
            _ => return None,
        };
        Some(Metric { name: named.name.into_owned(), unit: named.unit.to_owned(), data: Some(data), ..Metric::default() })
    }
}

impl Buckets {
    /// Prometheus counts what is at most the bound, OTLP what is between two.
    fn point(self, attributes: Vec<KeyValue>, times: Times) -> HistogramDataPoint {
        let mut below = 0;
        let between = |(_, count): &(f64, u64)| {
            let here = count.saturating_sub(below);
            below = *count;
            here
        };
        HistogramDataPoint {
            attributes,
            start_time_unix_nano: times.began,
            time_unix_nano: times.now,
            count: self.count,
            sum: Some(self.sum),
            bucket_counts: self.bounds.iter().map(between).collect(),
            explicit_bounds: self.bounds.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect(),
            ..HistogramDataPoint::default()
        }
    }
}

fn attributes(labels: Labels, named: &Named) -> Vec<KeyValue> {
    let own = labels.into_iter().map(|(label, value)| {
        let key = named.renamed.iter().find(|(own, _)| *own == label).map_or(label.as_str(), |(_, theirs)| *theirs).to_owned();
        let value = match value.parse() {
            Ok(number) if key == STATUS => Value::IntValue(number),
            _ => Value::StringValue(value),
        };
        attribute(key, value)
    });
    let added = named.added.iter().map(|(key, value)| attribute((*key).to_owned(), Value::StringValue((*value).to_owned())));
    own.chain(added).collect()
}

fn attribute(key: String, value: Value) -> KeyValue {
    KeyValue { key, value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times { began: 1, now: 2 };

    fn told(attributes: &[KeyValue]) -> Vec<String> {
        let text = |pair: &KeyValue| format!("{}={:?}", pair.key, pair.value.as_ref().unwrap().value.as_ref().unwrap());
        attributes.iter().map(text).collect()
    }

    #[test]
    fn a_histogram_of_the_recorder_becomes_one_of_otlp_under_the_name_of_the_conventions() {
        let recorder = super::super::super::builder().unwrap().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            let seconds =
                metrics::histogram!("lakefall_http_request_seconds", "route" => "/v1/\"x\\", "method" => "POST", "status" => "200");
            [0.0012, 0.0013, 30.0].into_iter().for_each(|value| seconds.record(value));
        });
        let metrics = metrics(&recorder.handle().render(), TIMES);
        let [metric] = metrics.as_slice() else { panic!("{metrics:?}") };
        assert_eq!((metric.name.as_str(), metric.unit.as_str(), points(metric)), ("http.server.request.duration", "s", 1));
        let Some(metric::Data::Histogram(histogram)) = &metric.data else { panic!("{metric:?}") };
        let point = &histogram.data_points[0];
        assert_eq!((point.count, point.bucket_counts.len()), (3, point.explicit_bounds.len() + 1));
        let at = point.explicit_bounds.iter().position(|bound| *bound == 0.002).unwrap();
        assert_eq!((point.bucket_counts[at], point.bucket_counts.iter().sum::<u64>()), (2, 3));
        let told = told(&point.attributes);
        for expected in [
            "http.route=StringValue(\"/v1/\\\"x\\\\\")",
            "http.request.method=StringValue(\"POST\")",
            "http.response.status_code=IntValue(200)",
            "url.scheme=StringValue(\"http\")",
        ] {
            assert!(told.iter().any(|one| one == expected), "{expected} is not in {told:?}");
        }
    }

    #[test]
    fn counters_begin_with_the_process_and_gauges_with_nothing() {
        let text = "# TYPE lakefall_produced_records_total counter\nlakefall_produced_records_total 7\n\n# TYPE lakefall_connections gauge\nlakefall_connections 3\nlakefall_connections{a=\"b\"} NaN\n";
        let metrics = metrics(text, TIMES);
        let Some(metric::Data::Sum(sum)) = &metrics[0].data else { panic!("{metrics:?}") };
        assert!(sum.is_monotonic && metrics[0].name == "messaging.client.sent.messages");
        assert_eq!((sum.data_points[0].start_time_unix_nano, sum.data_points[0].value), (1, Some(Number::AsDouble(7.0))));
        let Some(metric::Data::Gauge(gauge)) = &metrics[1].data else { panic!("{metrics:?}") };
        assert_eq!((gauge.data_points[0].start_time_unix_nano, gauge.data_points.len()), (0, 2));
    }

    #[test]
    fn what_is_no_sample_is_left_out() {
        for line in ["", "x", "x{", "x{a=\"b", "x{a=\"b\"}", "x{a} 1", "{} ", "x nothing"] {
            assert!(sample(line).is_none(), "{line:?}");
        }
        assert_eq!(sample("x{a=\"}\",b=\"\\n\"} 1.5").unwrap(), ("x", vec![("a".into(), "}".into()), ("b".into(), "\n".into())], 1.5));
    }
}

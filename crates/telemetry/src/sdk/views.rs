//! Views: which attributes of a metric make series, and how many.

use opentelemetry::Key;
use opentelemetry_sdk::metrics::{Aggregation, Instrument, MeterProviderBuilder, Stream};

use crate::vocabulary::{DURATION_BUCKETS_S, MAX_SERIES, METRIC_KEYS, metric};

/// Bounds every instrument, ours or not: by the allow-list of attributes, and by the number of series.
pub(super) fn bounded(builder: MeterProviderBuilder) -> MeterProviderBuilder {
    builder.with_view(view)
}

fn view(instrument: &Instrument) -> Option<Stream> {
    let stream = Stream::builder()
        .with_allowed_attribute_keys(METRIC_KEYS.map(Key::from_static_str))
        // The series of what overflows counts too.
        .with_cardinality_limit(MAX_SERIES - 1);
    let stream = if instrument.name() == metric::DURATION {
        stream.with_aggregation(Aggregation::ExplicitBucketHistogram {
            boundaries: DURATION_BUCKETS_S.to_vec(),
            record_min_max: true,
        })
    } else {
        stream
    };
    // The parts are constants, and a test builds every one.
    stream.build().ok()
}

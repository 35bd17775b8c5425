//! Numbers and times as people read them.

use chrono::DateTime;

/// Whole numbers with separators: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in powers of a thousand: `812 B`, `3.4 MB`.
pub fn bytes(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut units = ["kB", "MB", "GB", "TB", "PB"].into_iter().peekable();
    let mut unit = units.next().unwrap_or_default();
    // 999.95 would print as 1000.0.
    while value >= 999.95 && units.peek().is_some() {
        value /= 1000.0;
        unit = units.next().unwrap_or(unit);
    }
    format!("{value:.1} {unit}")
}

/// Milliseconds as seconds, with three digits below one second and two from there on: `0.012`, `3.40`.
pub fn seconds(milliseconds: f64) -> String {
    let seconds = milliseconds / 1000.0;
    if seconds < 1.0 { format!("{seconds:.3}") } else { format!("{seconds:.2}") }
}

/// A time in UTC, to the second: `2026-01-15 06:00:00Z`.
pub fn instant(unix_ms: i64) -> String {
    match DateTime::from_timestamp_millis(unix_ms) {
        Some(time) => time.format("%Y-%m-%d %H:%M:%SZ").to_string(),
        None => format!("{unix_ms} ms"),
    }
}

/// `1 view`, `2 views`.
pub fn plural(number: usize, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well_at_their_edges() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0, 999, 1000, 3_400_000, 999_999, u64::MAX].map(bytes),
            ["0 B", "999 B", "1.0 kB", "3.4 MB", "1.0 MB", "18446.7 PB"]
        );
        assert_eq!([0.0, 12.3, 999.0, 1000.0, 75_432.0].map(seconds), ["0.000", "0.012", "0.999", "1.00", "75.43"]);
        assert_eq!([0, 1_768_456_800_123].map(instant), ["1970-01-01 00:00:00Z", "2026-01-15 06:00:00Z"]);
        assert_eq!(instant(i64::MAX), "9223372036854775807 ms");
        assert_eq!([plural(1, "view"), plural(0, "view")], ["1 view", "0 views"]);
    }
}

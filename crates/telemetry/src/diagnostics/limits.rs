//! How much of a payload is kept.

use serde_json::{Map, Value, json};

/// How large events may grow. What is cut says so in place, with how much is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiagnosticsLimits {
    /// Longest string, in bytes.
    pub max_string_bytes: usize,
    /// Most items of a list, and most fields of an object.
    pub max_items: usize,
    /// Largest payload as JSON, in bytes. A larger one is replaced by its size and the names of its fields.
    pub max_payload_bytes: usize,
    /// Most events of a process.
    pub max_events: u64,
}

impl Default for DiagnosticsLimits {
    /// 4 KiB a string, 256 items, 64 KiB a payload, 10,000 events.
    fn default() -> Self {
        Self { max_string_bytes: 4 << 10, max_items: 256, max_payload_bytes: 64 << 10, max_events: 10_000 }
    }
}

impl DiagnosticsLimits {
    pub(super) fn cut(&self, payload: &mut Value) {
        self.cut_parts(payload);
        let bytes = payload.to_string().len();
        if bytes > self.max_payload_bytes {
            let fields: Vec<&String> = payload.as_object().into_iter().flat_map(Map::keys).take(64).collect();
            *payload = json!({ "truncated": true, "bytes": bytes, "fields": fields });
        }
    }

    fn cut_parts(&self, value: &mut Value) {
        match value {
            Value::String(text) if text.len() > self.max_string_bytes => {
                let kept = text.floor_char_boundary(self.max_string_bytes);
                let missing = text.len() - kept;
                text.truncate(kept);
                text.push_str(&format!("… [{missing} bytes more]"));
            }
            Value::Array(items) => {
                let missing = items.len().saturating_sub(self.max_items);
                items.truncate(self.max_items);
                items.iter_mut().for_each(|item| self.cut_parts(item));
                if missing > 0 {
                    items.push(Value::String(format!("… [{missing} items more]")));
                }
            }
            Value::Object(map) => {
                let missing = map.len().saturating_sub(self.max_items);
                if missing > 0 {
                    *map = std::mem::take(map).into_iter().take(self.max_items).collect();
                    map.insert("…".to_owned(), Value::String(format!("[{missing} fields more]")));
                }
                map.values_mut().for_each(|value| self.cut_parts(value));
            }
            _ => {}
        }
    }
}

//! The W3C trace context: one line that says which trace, and which span of it, work belongs to.

use std::fmt;
use std::str::FromStr;

use opentelemetry::trace::{SpanContext, TraceState};
use opentelemetry::{SpanId, TraceFlags, TraceId};

/// The variable by which a parent process hands its trace context down.
pub const TRACEPARENT: &str = "TRACEPARENT";

/// The variable that carries what vendors add to it.
pub const TRACESTATE: &str = "TRACESTATE";

/// Longest `tracestate` that is passed on: the standard asks for at least this much.
const MAX_STATE_BYTES: usize = 512;

/// The text is no `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("`{text}` is not a traceparent: {problem}; write it as 00-<32 hex digits>-<16 hex digits>-<2 hex digits>")]
pub struct TraceParentError {
    /// What was found, shortened.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// A place in a trace: trace id, span id, flags, and the vendors' state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: TraceId,
    span_id: SpanId,
    flags: TraceFlags,
    state: Option<String>,
}

impl TraceContext {
    /// A place that is sampled. Both ids are other than zero, or the context is of no use to anybody.
    pub(crate) fn new(trace_id: TraceId, span_id: SpanId, flags: TraceFlags) -> Self {
        Self { trace_id, span_id, flags, state: None }
    }

    pub(crate) fn from_span_context(context: &SpanContext) -> Option<Self> {
        let state = context.trace_state().header();
        context.is_valid().then(|| Self {
            trace_id: context.trace_id(),
            span_id: context.span_id(),
            flags: context.trace_flags(),
            state: (!state.is_empty()).then_some(state),
        })
    }

    pub(crate) fn to_remote(&self) -> SpanContext {
        let state = self.state.as_deref().and_then(|state| TraceState::from_str(state).ok()).unwrap_or_default();
        SpanContext::new(self.trace_id, self.span_id, self.flags, true, state)
    }

    /// The trace context that the environment hands down, by `TRACEPARENT` and `TRACESTATE`. A malformed one is answered
    /// as the standard asks: with a warning and a new trace, for telemetry never fails the work.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let text = variable(TRACEPARENT).filter(|text| !text.is_empty())?;
        match text.parse::<Self>() {
            Ok(context) => Some(match variable(TRACESTATE) {
                Some(state) => context.with_state(&state),
                None => context,
            }),
            Err(error) => {
                tracing::warn!(target: "alluvium.telemetry", notice = %error, "TRACEPARENT is ignored");
                None
            }
        }
    }

    /// The same place with the vendors' state. One that is malformed or longer than 512 bytes is left out: the standard
    /// would rather lose it than carry half of it.
    #[must_use]
    pub fn with_state(mut self, state: &str) -> Self {
        self.state = (state.len() <= MAX_STATE_BYTES && !state.is_empty() && TraceState::from_str(state).is_ok())
            .then(|| state.to_owned());
        self
    }

    /// The trace.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The span in it.
    #[must_use]
    pub fn span_id(&self) -> SpanId {
        self.span_id
    }

    /// Whether whoever began the trace records it.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags.is_sampled()
    }

    pub(crate) fn flags(&self) -> TraceFlags {
        self.flags
    }

    /// The vendors' state, where there is one.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// What to set in the environment of a child process.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, String)> {
        let state = self.state.clone().map(|state| (TRACESTATE, state));
        std::iter::once((TRACEPARENT, self.to_string())).chain(state)
    }
}

/// The `traceparent`, in version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags.to_u8())
    }
}

impl FromStr for TraceContext {
    type Err = TraceParentError;

    /// Reads a `traceparent`. Of a version after 00 the four known fields are read and the rest is ignored.
    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        let refuse = |problem| TraceParentError { text: text.chars().take(80).collect(), problem };
        let mut fields = text.split('-');
        let mut field = |digits: usize, problem: &'static str| {
            fields
                .next()
                .filter(|field| field.len() == digits)
                .filter(|field| field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
                .ok_or_else(|| refuse(problem))
        };
        let version = field(2, "the version is not two lower-case hex digits")?;
        let trace_id = field(32, "the trace id is not 32 lower-case hex digits")?;
        let span_id = field(16, "the span id is not 16 lower-case hex digits")?;
        let flags = field(2, "the flags are not two lower-case hex digits")?;
        if version == "ff" {
            return Err(refuse("the version ff is forbidden"));
        }
        if version == "00" && fields.next().is_some() {
            return Err(refuse("version 00 has four fields"));
        }
        let trace_id = TraceId::from_hex(trace_id).map_err(|_| refuse("the trace id is not hexadecimal"))?;
        let span_id = SpanId::from_hex(span_id).map_err(|_| refuse("the span id is not hexadecimal"))?;
        if trace_id == TraceId::INVALID || span_id == SpanId::INVALID {
            return Err(refuse("an id of zeros names nothing"));
        }
        let flags = u8::from_str_radix(flags, 16).map_err(|_| refuse("the flags are not hexadecimal"))?;
        // Only the flags that this version knows go on.
        Ok(Self::new(trace_id, span_id, TraceFlags::new(flags) & TraceFlags::SAMPLED))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_goes_in_and_out() {
        let context: TraceContext = PARENT.parse().unwrap();
        assert!(context.is_sampled());
        assert_eq!(context.to_string(), PARENT);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = PARENT.replacen("00", "cc", 1) + "-what-comes";
        assert_eq!(later.parse::<TraceContext>().unwrap().to_string(), PARENT);
    }

    #[test]
    fn malformed_ones_are_refused_by_what_is_wrong() {
        for (text, problem) in [
            ("", "version"),
            ("00-abc", "trace id"),
            ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", "trace id"),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", "zeros"),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", "zeros"),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1", "flags"),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x", "four"),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "ff"),
        ] {
            let error = text.parse::<TraceContext>().unwrap_err();
            assert!(error.problem.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn the_environment_hands_a_context_down_and_a_bad_one_starts_a_new_trace() {
        let variables = |parent: &'static str| {
            TraceContext::from_variables(move |name| match name {
                TRACEPARENT => Some(parent.to_owned()),
                TRACESTATE => Some("vendor=1".to_owned()),
                _ => None,
            })
        };
        let context = variables(PARENT).unwrap();
        let handed: Vec<_> = context.variables().collect();
        assert_eq!(handed, [(TRACEPARENT, PARENT.to_owned()), (TRACESTATE, "vendor=1".to_owned())]);
        assert_eq!(variables("00-nonsense"), None);
        assert_eq!(variables(""), None);
    }

    #[test]
    fn a_state_that_cannot_be_carried_whole_is_left_out() {
        let context: TraceContext = PARENT.parse().unwrap();
        let long = format!("vendor={}", "x".repeat(600));
        for state in ["", "no equals sign", long.as_str()] {
            assert_eq!(context.clone().with_state(state).state(), None, "{state}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,80}") {
            let _ = text.parse::<TraceContext>();
        }

        #[test]
        fn every_context_reads_back(trace in 1u128.., span in 1u64.., sampled: bool) {
            let flags = if sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
            let context = TraceContext::new(TraceId::from(trace), SpanId::from(span), flags);
            prop_assert_eq!(context.to_string().parse::<TraceContext>().unwrap(), context);
        }
    }
}

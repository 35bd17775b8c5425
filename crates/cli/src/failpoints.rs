//! Fail points that kill the process: crash tests set `ALLUVIUM_KILL_AT` and look at what is left.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::failure::Failure;

/// `name` or `name:N` (at the N-th hit), separated by commas.
const VARIABLE: &str = "ALLUVIUM_KILL_AT";

/// Arms the fail points that the variable names.
pub fn arm() -> Result<(), Failure> {
    let Some(value) = std::env::var_os(VARIABLE) else {
        return Ok(());
    };
    let value = value.to_string_lossy();
    for word in value.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let (name, hit) = parse(word)?;
        let hits = AtomicU64::new(0);
        fail::cfg_callback(name, move || {
            if hits.fetch_add(1, Ordering::SeqCst) + 1 == hit {
                die();
            }
        })
        .map_err(|reason| refused(word, &reason))?;
    }
    Ok(())
}

fn parse(word: &str) -> Result<(&str, u64), Failure> {
    match word.rsplit_once(':') {
        // `a::b` is a name with a path in it.
        Some((name, hit)) if !name.ends_with(':') => match hit.parse() {
            Ok(hit) if hit > 0 && !name.is_empty() => Ok((name, hit)),
            Ok(_) | Err(_) => Err(refused(word, "expected `name` or `name:N`, N from 1")),
        },
        Some(_) | None => Ok((word, 1)),
    }
}

fn refused(word: &str, reason: &str) -> Failure {
    Failure::input(format!("{VARIABLE}: `{word}`: {reason}"))
}

/// Dies as a power cut would have it: no destructor, no buffer, no exit handler.
fn die() -> ! {
    // SAFETY: both calls take plain numbers and touch no memory of ours.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
    }
    // The signal is on its way; until it is delivered, nothing else may happen on this thread.
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_carry_the_hit_that_kills() {
        assert_eq!(parse("entry-commit").unwrap(), ("entry-commit", 1));
        assert_eq!(parse("entry-commit:3").unwrap(), ("entry-commit", 3));
        assert_eq!(parse("entry::commit").unwrap(), ("entry::commit", 1));
        assert_eq!(parse("entry::commit:2").unwrap(), ("entry::commit", 2));
        for bad in ["a:0", "a:x", ":3"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

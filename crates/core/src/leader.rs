//! Which of two operator processes acts: a lease, evaluated without I/O so that two operators can be simulated.

/// The lease as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseView {
    /// Who holds it; empty if nobody.
    pub holder: String,
    /// How often it changed hands.
    pub transitions: u64,
    /// Counts every write that was observed (the resource version): the reader's clock measures since it last changed.
    pub version: String,
    /// How long a renewal lasts, in milliseconds.
    pub duration_ms: u64,
}

/// What a candidate does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Take it, with this many transitions.
    Take(u64),
    /// It is mine: renew it.
    Renew,
    /// It is another's, and has not expired.
    Wait,
}

/// Decides by how long *this* process has seen the lease unchanged, never by the other's clock.
pub fn evaluate(lease: Option<&LeaseView>, me: &str, unchanged_ms: u64) -> Claim {
    match lease {
        None => Claim::Take(1),
        Some(lease) if lease.holder == me => Claim::Renew,
        Some(lease) if lease.holder.is_empty() || unchanged_ms >= lease.duration_ms => {
            Claim::Take(lease.transitions + 1)
        }
        Some(_) => Claim::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::{Claim, LeaseView, evaluate};

    fn lease(holder: &str) -> LeaseView {
        LeaseView { holder: holder.into(), transitions: 4, version: "7".into(), duration_ms: 6_000 }
    }

    #[test]
    fn nobody_takes_a_lease_that_another_renews() {
        assert_eq!(evaluate(Some(&lease("a")), "b", 5_999), Claim::Wait);
        assert_eq!(evaluate(Some(&lease("a")), "b", 6_000), Claim::Take(5));
    }

    #[test]
    fn a_lease_that_was_given_back_is_taken_at_once() {
        assert_eq!(evaluate(Some(&lease("")), "b", 0), Claim::Take(5));
        assert_eq!(evaluate(None, "b", 0), Claim::Take(1));
    }

    #[test]
    fn the_holder_renews_what_is_its_own() {
        assert_eq!(evaluate(Some(&lease("a")), "a", 99_999), Claim::Renew);
    }
}

//! Errors, named by what the caller does next.

/// What a BMC call ends in.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a BMC did not do what it was asked. No message holds a password or a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No answer in time: try again later; the machine's state is unknown.
    #[error("no answer: {why}")]
    Unreachable {
        /// What happened on the wire.
        why: String,
    },
    /// Wrong account or password: a person must change the Secret.
    #[error("the BMC refused the user name or password")]
    Unauthorized,
    /// The certificate is not the trusted one: a person must look, it may be another machine.
    #[error("the BMC's certificate is not trusted: {why}")]
    Untrusted {
        /// What does not fit.
        why: String,
    },
    /// The BMC is busy or the machine is between states: try again soon.
    #[error("the BMC is busy: {why}")]
    Busy {
        /// What the BMC said.
        why: String,
    },
    /// This BMC cannot do that: choose another way.
    #[error("the BMC cannot {what}")]
    Unsupported {
        /// What it cannot do.
        what: String,
    },
    /// The BMC understood and refused.
    #[error("the BMC refused to {what}: {why}")]
    Rejected {
        /// What was asked.
        what: String,
        /// What the BMC said.
        why: String,
    },
    /// The BMC said yes, and reading back shows that it did not do it.
    #[error("the BMC said yes but did not {what}: it still shows {found}")]
    NotDone {
        /// What was asked.
        what: String,
        /// What reading back showed.
        found: String,
    },
    /// The answer makes no sense.
    #[error("the BMC's answer makes no sense: {why}")]
    Garbled {
        /// What does not fit.
        why: String,
    },
}

//! The sessions of one BMC. They are few, they end when nobody uses them, and their tokens are told once.

use jiff::Timestamp;
use std::time::Duration;

/// How many sessions a BMC has at the same time.
pub const SESSIONS_MAX: usize = 8;
/// A session that is not used for this long ends.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(1800);

/// The sessions of one BMC.
#[derive(Default)]
pub struct Sessions {
    open: Vec<Session>,
    opened: u64,
}

/// One session.
pub struct Session {
    /// Number, from 1.
    pub id: u64,
    token: String,
    used: Timestamp,
}

impl Sessions {
    /// A new session: its number and its token. `None`: there are too many already.
    pub fn open(&mut self, now: Timestamp) -> Option<(u64, String)> {
        self.expire(now);
        if self.open.len() >= SESSIONS_MAX {
            return None;
        }
        self.opened += 1;
        let token = hex::encode(rand::random::<[u8; 16]>());
        self.open.push(Session { id: self.opened, token: token.clone(), used: now });
        Some((self.opened, token))
    }

    /// True when `token` is that of an open session, which is in use now.
    pub fn accept(&mut self, token: &str, now: Timestamp) -> bool {
        self.expire(now);
        let session = self.open.iter_mut().find(|session| session.token == token);
        session.map(|session| session.used = now).is_some()
    }

    /// Ends one. False: there was none.
    pub fn close(&mut self, id: u64) -> bool {
        let before = self.open.len();
        self.open.retain(|session| session.id != id);
        self.open.len() < before
    }

    /// All that are open.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.open.iter()
    }

    fn expire(&mut self, now: Timestamp) {
        self.open.retain(|session| now < session.used + SESSION_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_nobody_uses_ends_and_makes_room() {
        let mut sessions = Sessions::default();
        let start = Timestamp::UNIX_EPOCH;
        let (_, token) = sessions.open(start).expect("the first");
        for _ in 1..SESSIONS_MAX {
            sessions.open(start).expect("there is room");
        }
        assert!(sessions.open(start).is_none());
        let later = start + SESSION_TIMEOUT - Duration::from_secs(1);
        assert!(sessions.accept(&token, later));
        assert!(sessions.open(start + SESSION_TIMEOUT).is_some());
        assert!(sessions.accept(&token, start + SESSION_TIMEOUT));
    }
}

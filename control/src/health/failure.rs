//! Why a check did not pass, and whose lack that is.

use std::fmt;

use rustix::io::Errno;

/// Why a check did not pass, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The real server's, or that of the way to it.
    Server(String),
    /// The director's own. It could not ask, which says nothing about the real server.
    Own(String),
}

impl Failure {
    /// What the kernel refused to do, by whose lack it did.
    pub(super) fn of_system(what: impl fmt::Display, error: impl Into<std::io::Error>) -> Failure {
        let error = error.into();
        let text = format!("{what}: {error}");
        match Errno::from_io_error(&error) {
            // Files, memory, local ports, and processes that may be had are used up.
            Some(
                Errno::MFILE
                | Errno::NFILE
                | Errno::NOBUFS
                | Errno::NOMEM
                | Errno::ADDRNOTAVAIL
                | Errno::AGAIN,
            ) => Failure::Own(text),
            _ => Failure::Server(text),
        }
    }

    /// The same with its words changed.
    pub(super) fn map(self, change: impl FnOnce(&str) -> String) -> Failure {
        match self {
            Failure::Server(why) => Failure::Server(change(&why)),
            Failure::Own(why) => Failure::Own(change(&why)),
        }
    }

    /// Whether it says nothing about the real server.
    pub fn is_own(&self) -> bool {
        matches!(self, Failure::Own(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Server(why) => f.write_str(why),
            Failure::Own(why) => write!(f, "not checked: {why}"),
        }
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Failure::Server(why)
    }
}

impl From<&str> for Failure {
    fn from(why: &str) -> Self {
        Failure::Server(why.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_director_lacks_is_not_the_real_servers() {
        for errno in
            [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL, Errno::AGAIN]
        {
            assert!(Failure::of_system("cannot connect", errno).is_own(), "{errno}");
        }
        for errno in
            [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::NETUNREACH, Errno::TIMEDOUT, Errno::CONNRESET]
        {
            assert!(!Failure::of_system("cannot connect", errno).is_own(), "{errno}");
        }
        let text = Failure::of_system("cannot connect", Errno::MFILE).to_string();
        assert!(text.starts_with("not checked: cannot connect: Too many open files"), "{text}");
    }
}

//! How far a request came.

use std::fmt;

macro_rules! stages {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $call:literal;)*) => {
        /// The step of a process's making at which it failed, in the order in which they are taken.
        ///
        /// ```
        /// use uring_process::{Command, Stage};
        ///
        /// let error = Command::new("true").current_dir("/nonexistent").spawn().unwrap_err();
        /// let error = uring_process::Error::of(&error).unwrap();
        /// assert_eq!(error.stage(), Some(Stage::CurrentDir));
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Stage {
            $($(#[$doc])* $name = $number,)*
        }

        impl Stage {
            pub(crate) fn from_raw(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The system call or action in question.
            fn call(self) -> &'static str {
                match self {
                    $(Self::$name => $call,)*
                }
            }
        }
    };
}

stages! {
    /// Pipes and descriptors for the child, in this process.
    Prepare = 1, "prepare its descriptors";
    /// Making the process: `EAGAIN` at a limit of processes, `ENOMEM`.
    Clone = 2, "clone";
    /// Giving the child a descriptor table of its own.
    Unshare = 3, "close_range";
    /// Placing the mapped descriptors.
    Descriptors = 4, "place its descriptors";
    /// Moving it into its cgroup.
    Cgroup = 5, "move it into its cgroup";
    /// `setgroups(2)`.
    Groups = 6, "setgroups";
    /// `setgid(2)`.
    Gid = 7, "setgid";
    /// `setuid(2)`.
    Uid = 8, "setuid";
    /// `chroot(2)`.
    Chroot = 9, "chroot";
    /// `chdir(2)`.
    CurrentDir = 10, "chdir";
    /// `setpgid(2)`.
    ProcessGroup = 11, "setpgid";
    /// `setsid(2)`.
    Session = 12, "setsid";
    /// `umask(2)`, `setpriority(2)`, `prlimit(2)`.
    Limits = 13, "set its limits";
    /// Signal dispositions.
    Signals = 14, "set its signals";
    /// A closure given to `pre_exec`.
    PreExec = 15, "pre_exec closure";
    /// `prctl(PR_SET_NO_NEW_PRIVS)` and `seccomp(2)`.
    Confine = 16, "confine it";
    /// Starting the launcher that changes the ids.
    Launcher = 17, "start the launcher for its ids";
    /// `execve(2)` itself.
    Exec = 18, "execve";
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.call())
    }
}

#[cfg(test)]
mod tests {
    use super::Stage;

    #[test]
    fn numbers_are_dense_and_in_order() {
        let all: Vec<Stage> = (1..).map_while(Stage::from_raw).collect();
        assert_eq!(all.first(), Some(&Stage::Prepare));
        assert_eq!(all.last(), Some(&Stage::Exec));
        assert!(all.is_sorted());
        assert!(
            all.iter()
                .zip(1..)
                .all(|(stage, number)| *stage as u32 == number)
        );
        assert_eq!(Stage::from_raw(0), None);
    }
}

//! Open files that other programs are not to inherit.

/// Lets no program that this process starts from now on have the files that are open now, but for the first three: EAL
/// and drivers open devices, hugepages and sockets without close-on-exec. A kernel older than Linux 5.11 cannot; then
/// they are inherited as before.
pub fn close_on_exec() {
    // SAFETY: takes three integers and no pointer. It closes nothing; it sets a flag of descriptors, which matters to
    // nobody but programs that are started later.
    let done = unsafe {
        libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    if done != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "programs that are started inherit DPDK's open files");
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

    #[test]
    fn no_open_file_is_inherited() {
        let file = std::fs::File::open("/dev/null").expect("/dev/null");
        fcntl_setfd(file.as_fd(), FdFlags::empty()).expect("a flag is taken away");
        super::close_on_exec();
        assert_eq!(fcntl_getfd(file.as_fd()), Ok(FdFlags::CLOEXEC), "Linux 5.11 or later");
        assert_eq!(fcntl_getfd(std::io::stderr()), Ok(FdFlags::empty()));
    }
}

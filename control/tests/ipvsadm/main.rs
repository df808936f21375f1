//! The ipvsadm face beside Debian's ipvsadm 1.31: the same command lines, complaints, exit statuses, questions to the
//! kernel and listings. What the original did is recorded here, so that everything is checked where it is not installed;
//! where it is, it is asked again. `IPVSADM_RECORD=1` writes the records anew.

mod commands;
mod formats;
mod netlink;
mod original;
mod properties;
mod session;
#[path = "../support/mod.rs"]
mod support;

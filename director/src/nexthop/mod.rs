//! Routes and neighbours as the data plane looks them up, mirrored from the kernel.

mod view;

pub use view::{Address, KernelView, Link, MacAddr, Neighbour, Route};

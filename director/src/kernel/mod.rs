//! The kernel as slow path: mirror interfaces, netlink, the ingress guard.

//! The order in which ipvsadm lists. It compares by a difference that it takes for a number with a sign, so that what
//! is more than half of all addresses away comes first; and since such an order has no beginning, what comes out depends
//! on which two are compared. Hence ipvsadm's comparisons in the order of the C library's merge sort.

use std::net::{IpAddr, SocketAddr};

use crate::model::ServiceKey;
use crate::protocol::{ServerStatus, ServiceStatus};

/// Sorts services as `ipvsadm -L` does.
pub(super) fn services(services: &mut Vec<ServiceStatus>) {
    merge_sort(services, &|a, b| compare_services(&a.service, &b.service));
}

/// Sorts the real servers of a service.
pub(super) fn servers(servers: &mut Vec<ServerStatus>) {
    merge_sort(servers, &|a, b| compare_servers(a.address, b.address));
}

fn compare_services(a: &ServiceKey, b: &ServiceKey) -> i32 {
    let steps = [
        difference(mark(a), mark(b)),
        i32::from(a.ip().is_ipv6()) - i32::from(b.ip().is_ipv6()),
        number(a) - number(b),
        compare_addresses(a.ip(), b.ip()),
        i32::from(a.port()) - i32::from(b.port()),
    ];
    first(&steps)
}

fn compare_servers(a: SocketAddr, b: SocketAddr) -> i32 {
    first(&[compare_addresses(a.ip(), b.ip()), i32::from(a.port()) - i32::from(b.port())])
}

fn first(steps: &[i32]) -> i32 {
    steps.iter().copied().find(|step| *step != 0).unwrap_or(0)
}

fn mark(key: &ServiceKey) -> u32 {
    match key {
        ServiceKey::Mark { mark, .. } => mark.0.get(),
        ServiceKey::Address { .. } => 0,
    }
}

fn number(key: &ServiceKey) -> i32 {
    key.protocol().map_or(0, |protocol| super::print::protocol_number(protocol).into())
}

/// Of two versions of IP, the first one's size counts.
fn compare_addresses(a: IpAddr, b: IpAddr) -> i32 {
    let (words_a, words_b) = (words(a), words(b));
    let count = if a.is_ipv6() { 4 } else { 1 };
    let steps: Vec<i32> = words_a.iter().zip(words_b).take(count).map(|(a, b)| difference(*a, b)).collect();
    first(&steps)
}

fn words(ip: IpAddr) -> [u32; 4] {
    match ip {
        IpAddr::V4(ip) => [ip.to_bits(), 0, 0, 0],
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
        }
    }
}

fn difference(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}

/// As glibc's `qsort` when there is memory: halves, the first one the smaller, merged with the first one's before what
/// is equal.
fn merge_sort<T>(items: &mut Vec<T>, compare: &impl Fn(&T, &T) -> i32) {
    if items.len() <= 1 {
        return;
    }
    let mut second = items.split_off(items.len() / 2);
    let mut first = std::mem::take(items);
    merge_sort(&mut first, compare);
    merge_sort(&mut second, compare);
    let (mut a, mut b) = (first.into_iter().peekable(), second.into_iter().peekable());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        items.extend(if compare(x, y) <= 0 { a.next() } else { b.next() });
    }
    items.extend(a);
    items.extend(b);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(texts: &[&str]) -> Vec<String> {
        let mut keys: Vec<ServiceKey> = texts.iter().map(|text| text.parse().expect(text)).collect();
        merge_sort(&mut keys, &compare_services);
        keys.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn by_mark_family_protocol_address_and_port() {
        let order = [
            "tcp 10.0.0.1:80",
            "tcp 10.0.0.1:443",
            "tcp 10.0.0.2:80",
            "udp 10.0.0.1:53",
            "sctp 10.0.0.1:9",
            "tcp [2001:db8::1]:80",
            "mark 1",
            "mark 1/ipv6",
            "mark 2",
        ];
        let mut mixed = order;
        mixed.reverse();
        assert_eq!(sorted(&mixed), order);
    }

    #[test]
    fn an_address_more_than_half_of_all_away_comes_first() {
        assert_eq!(
            sorted(&["tcp 10.0.0.1:80", "tcp 192.168.0.1:80"]),
            ["tcp 192.168.0.1:80", "tcp 10.0.0.1:80"]
        );
    }
}

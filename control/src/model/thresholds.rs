//! Thresholds of a real server: with how many connections it gets no new ones, and with how few it does again.

use serde::{Deserialize, Serialize};

/// Between how many connections a real server gets new ones (`ipvsadm -x` and `-y`), active and inactive ones
/// counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Thresholds {
    /// With so many it is overloaded and gets no new ones; 0: never.
    #[serde(rename = "upper_threshold", default)]
    pub upper: u32,
    /// With fewer it is overloaded no longer; 0: with less than three quarters of the upper threshold.
    #[serde(rename = "lower_threshold", default)]
    pub lower: u32,
}

impl Thresholds {
    /// Whether a real server with so many connections is overloaded, if it `was` until now (Linux
    /// `ip_vs_bind_dest` and `ip_vs_unbind_dest` in `ip_vs_conn.c`).
    #[inline]
    pub fn overloaded(&self, connections: u64, was: bool) -> bool {
        let (upper, lower) = (u64::from(self.upper), u64::from(self.lower));
        if upper == 0 {
            return false;
        }
        if connections >= upper {
            return true;
        }
        let recovered =
            if lower > 0 { connections < lower } else { connections.saturating_mul(4) < upper * 3 };
        was && !recovered
    }

    /// Whether a real server can be overloaded at all.
    #[inline]
    pub fn any(&self) -> bool {
        self.upper > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(upper: u32, lower: u32, connections: &[u64]) -> Vec<bool> {
        let thresholds = Thresholds { upper, lower };
        let mut was = false;
        let next = |n: &u64| {
            was = thresholds.overloaded(*n, was);
            was
        };
        connections.iter().map(next).collect()
    }

    #[test]
    fn overload_comes_at_the_upper_and_goes_below_the_lower() {
        assert_eq!(states(10, 5, &[9, 10, 9, 5, 4, 9, 10]), [false, true, true, true, false, false, true]);
        assert_eq!(states(10, 10, &[9, 10, 9]), [false, true, false]);
    }

    #[test]
    fn without_a_lower_threshold_it_goes_below_three_quarters() {
        assert_eq!(states(8, 0, &[8, 7, 6, 5, 6]), [true, true, true, false, false]);
        // 3 * 4 is 12, which is not below 4 * 3.
        assert_eq!(states(4, 0, &[4, 3, 2]), [true, true, false]);
        assert_eq!(states(1, 0, &[1, 0]), [true, false]);
    }

    #[test]
    fn without_an_upper_threshold_nobody_is_overloaded() {
        assert_eq!(states(0, 0, &[0, u64::MAX, 1]), [false; 3]);
        assert_eq!(states(u32::MAX, 0, &[u64::MAX, 0]), [true, false]);
    }
}

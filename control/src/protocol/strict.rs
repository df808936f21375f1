//! The model's structs are shared with readers that tolerate more than a request line should: a mistyped field
//! of a request must be named, never ignored. These mirrors exist to deny unknown fields and to give ipvsadm's
//! defaults.

use std::net::SocketAddr;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::model::{
    Family, ForwardingMethod, Mark, Protocol, RealServer, ServiceKey, Thresholds, Tunnel, Weight,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictService {
    protocol: Option<Protocol>,
    address: Option<SocketAddr>,
    mark: Option<Mark>,
    family: Option<Family>,
}

impl StrictService {
    /// Errors name what is missing or too much, as serde's own do.
    fn key<E: Error>(self) -> Result<ServiceKey, E> {
        match self {
            StrictService { protocol: Some(protocol), address: Some(address), mark: None, family: None } => {
                Ok(ServiceKey::Address { protocol, address })
            }
            StrictService { protocol: None, address: None, mark: Some(mark), family } => {
                Ok(ServiceKey::Mark { mark, family: family.unwrap_or_default() })
            }
            StrictService { mark: Some(_), .. } => {
                Err(E::custom("a virtual service by `mark` has neither `protocol` nor `address`"))
            }
            StrictService { family: Some(_), .. } => Err(E::custom("`family` goes with `mark` only")),
            StrictService { protocol: None, address: Some(_), .. } => Err(E::missing_field("protocol")),
            StrictService { address: None, protocol: Some(_), .. } => Err(E::missing_field("address")),
            _ => Err(E::custom("missing `protocol` and `address`, or `mark`")),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictServer {
    address: SocketAddr,
    #[serde(default = "default_method")]
    method: ForwardingMethod,
    #[serde(default)]
    tunnel: Tunnel,
    #[serde(default)]
    weight: Weight,
    #[serde(default)]
    upper_threshold: u32,
    #[serde(default)]
    lower_threshold: u32,
}

fn default_method() -> ForwardingMethod {
    ForwardingMethod::Dr
}

pub(super) fn strict_service<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ServiceKey, D::Error> {
    StrictService::deserialize(deserializer)?.key()
}

pub(super) fn strict_service_option<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ServiceKey>, D::Error> {
    Option::<StrictService>::deserialize(deserializer)?.map(StrictService::key).transpose()
}

pub(super) fn strict_server<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RealServer, D::Error> {
    let StrictServer { address, method, tunnel, weight, upper_threshold, lower_threshold } =
        StrictServer::deserialize(deserializer)?;
    let thresholds = Thresholds { upper: upper_threshold, lower: lower_threshold };
    Ok(RealServer { address, method, tunnel, weight, thresholds })
}

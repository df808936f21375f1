//! The model's structs are shared with readers that tolerate more than a request line should: a mistyped field
//! of a request must be named, never ignored. These mirrors exist to deny unknown fields and to give ipvsadm's
//! defaults.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer};

use crate::model::{ForwardingMethod, Protocol, RealServer, ServiceKey, Thresholds, Tunnel, Weight};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictService {
    protocol: Protocol,
    address: SocketAddr,
}

impl From<StrictService> for ServiceKey {
    fn from(strict: StrictService) -> Self {
        ServiceKey { protocol: strict.protocol, address: strict.address }
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
    StrictService::deserialize(deserializer).map(ServiceKey::from)
}

pub(super) fn strict_service_option<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ServiceKey>, D::Error> {
    Ok(Option::<StrictService>::deserialize(deserializer)?.map(ServiceKey::from))
}

pub(super) fn strict_server<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RealServer, D::Error> {
    let StrictServer { address, method, tunnel, weight, upper_threshold, lower_threshold } =
        StrictServer::deserialize(deserializer)?;
    let thresholds = Thresholds { upper: upper_threshold, lower: lower_threshold };
    Ok(RealServer { address, method, tunnel, weight, thresholds })
}

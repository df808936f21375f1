//! What the director does when it is asked over its control socket.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use control::model::{Edit, EditError, PersistenceEdit, ServiceKey, SettingError, SettingValue, Timeouts};
use control::protocol::{Handler, PROTOCOL_VERSION, Peer, Refusal, Reply, Request, Version};

use super::controller::{Controller, exhausted, refuse};
use super::{capture, explain, listing, reasons, templates};
use crate::dpdk::Eal;
use crate::service::Services;

impl Handler for Controller {
    async fn handle(&self, request: Request, peer: Peer) -> Result<Reply, Refusal> {
        match request {
            Request::ServiceAdd { service: key, scheduler, flags, persistence, one_packet } => {
                let persistence =
                    persistence.and_then(|options| PersistenceEdit::from(options).of(None, key.ip()));
                self.edit(Edit::AddService { key, scheduler, flags, persistence, one_packet }).await
            }
            Request::ServiceEdit { service: key, scheduler, flags, persistence, one_packet } => {
                let persistence = persistence.map(PersistenceEdit::from);
                self.edit(Edit::EditService { key, scheduler, flags, persistence, one_packet }).await
            }
            Request::ServiceDelete { service } => self.edit(Edit::DeleteService { key: service }).await,
            Request::ServerAdd { service, server } => self.edit(Edit::AddServer { service, server }).await,
            Request::ServerEdit {
                service,
                address,
                weight,
                method,
                tunnel,
                upper_threshold,
                lower_threshold,
            } => {
                self.edit(Edit::EditServer {
                    service,
                    address,
                    weight,
                    method,
                    tunnel,
                    upper_threshold,
                    lower_threshold,
                })
                .await
            }
            Request::ServerDelete { service, address } => {
                self.edit(Edit::DeleteServer { service, address }).await
            }
            Request::ServerDrain { service, address, deadline, keep, active_only } => {
                let _by_hand = self.applying.read().await;
                self.drain((service, address), deadline, keep, active_only)
            }
            Request::ServerDrainStatus { service, address } => Ok(self.drains(service, address)),
            Request::ServerDrainCancel { service, address } => {
                let _by_hand = self.applying.read().await;
                self.cancel_drain(service, address)
            }
            Request::Settings {} => Ok(Reply::Settings(self.state().settings.into())),
            Request::SettingsSet { settings } => {
                let _by_hand = self.applying.read().await;
                self.set(&settings)
            }
            Request::Timeouts {} => Ok(Reply::Timeouts(self.state().timeouts.into())),
            Request::TimeoutsSet { tcp, tcp_fin, udp } => {
                let _by_hand = self.applying.read().await;
                self.set_timeouts(tcp, tcp_fin, udp)
            }
            Request::ServiceList {} => Ok(listing::services(self)),
            Request::ConnectionList { filter, cursor, limit } => {
                listing::connections(self, filter, cursor.as_deref(), limit).await
            }
            Request::TemplateList { filter, cursor, limit } => {
                templates::list(self, &filter, cursor.as_deref(), limit).await
            }
            Request::Stats {} => Ok(listing::stats(self).await),
            Request::StatsZero { service } => self.zero(service),
            Request::Rates {} => Ok(listing::rates(self)),
            Request::Reasons {} => Ok(reasons::list()),
            Request::Latency {} => Ok(listing::latency(self)),
            Request::LatencyHistograms {} => Ok(listing::histograms(self)),
            Request::Health { failing } => {
                Ok(Reply::Health(self.state().board.list(failing, Instant::now())))
            }
            Request::ConfigApply { text, source, confirm_within } => {
                self.apply(text, source, confirm_within, who(peer)).await.map(Reply::Applied)
            }
            Request::ConfigConfirm {} => self.confirm(&who(peer)).await,
            Request::ConfigRollback { to: version } => {
                self.roll_back(version, &who(peer)).await.map(Reply::Applied)
            }
            Request::ConfigHistory {} => Ok(self.history().await),
            Request::ConfigDiff { text, source } => self.diff(text, source).await,
            Request::Explain { packet } => explain::explain(self, packet).await,
            Request::CaptureStart { filter, count, seconds, snaplen } => {
                capture::start(self, filter, count, seconds, snaplen).await
            }
            Request::CaptureRead { capture } => capture::read(self, capture).await,
            Request::CaptureStop { capture } => capture::stop(self, capture).await,
            Request::Version {} => Ok(Reply::Version(Version {
                director: env!("CARGO_PKG_VERSION").into(),
                dpdk: Eal::version(),
                protocol: PROTOCOL_VERSION,
            })),
        }
    }
}

/// As the log and the history name who asks.
fn who(peer: Peer) -> String {
    match peer.pid {
        Some(pid) => format!("uid {} pid {pid}", peer.uid),
        None => format!("uid {}", peer.uid),
    }
}

impl Controller {
    /// Lets counters begin at nothing, those of one service or all.
    fn zero(&self, service: Option<ServiceKey>) -> Result<Reply, Refusal> {
        let mut state = self.state();
        if let Some(key) = service.filter(|key| !state.model.services().contains_key(key)) {
            return Err(refuse(EditError::NoSuchService { service: key }));
        }
        state.compiler.zero(service);
        state.estimates.zero(service);
        Ok(Reply::DONE)
    }

    /// Sets settings, all of them or none.
    fn set(&self, wanted: &BTreeMap<String, SettingValue>) -> Result<Reply, Refusal> {
        let mut state = self.state();
        let mut settings = state.settings;
        for (name, value) in wanted {
            let refuse = |e: SettingError| Refusal::new(e.code(), e.to_string(), e.remedy());
            settings.set(name, *value).map_err(refuse)?;
        }
        let before = std::mem::replace(&mut state.settings, settings);
        if let Err(error) = self.publish(&mut state, Services::Edited(&[])) {
            state.settings = before;
            return Err(exhausted(error));
        }
        drop(state);
        tracing::info!(?wanted, "settings changed");
        Ok(Reply::DONE)
    }

    fn set_timeouts(
        &self,
        tcp: Option<u32>,
        tcp_fin: Option<u32>,
        udp: Option<u32>,
    ) -> Result<Reply, Refusal> {
        let mut state = self.state();
        let mut timeouts = state.timeouts;
        let Timeouts { tcp: old_tcp, tcp_fin: old_tcp_fin, udp: old_udp } = &mut timeouts;
        for (name, old, new) in
            [("tcp", old_tcp, tcp), ("tcp_fin", old_tcp_fin, tcp_fin), ("udp", old_udp, udp)]
        {
            let Some(seconds) = new else { continue };
            if !(1..=Timeouts::MAX_SECONDS).contains(&seconds) {
                return Err(Refusal::new(
                    "bad-timeout",
                    format!("timeout {name} cannot be {seconds} s"),
                    format!("give from 1 to {} seconds", Timeouts::MAX_SECONDS),
                ));
            }
            *old = Duration::from_secs(seconds.into());
        }
        let before = std::mem::replace(&mut state.timeouts, timeouts);
        if let Err(error) = self.publish(&mut state, Services::Edited(&[])) {
            state.timeouts = before;
            return Err(exhausted(error));
        }
        drop(state);
        tracing::info!(?timeouts, "timeouts changed");
        Ok(Reply::DONE)
    }
}

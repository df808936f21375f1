//! ctl
/// ctl
pub struct Directorctl;
impl Directorctl {
    /// new
    pub fn new(_: std::path::PathBuf) -> Self {
        Directorctl
    }
}

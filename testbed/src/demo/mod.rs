//! demo
/// demo
pub fn run(_keep: bool) -> crate::error::Result<()> {
    Ok(())
}
/// up
pub fn stand_up() -> crate::error::Result<()> {
    Ok(())
}

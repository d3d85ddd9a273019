//! `cargo xtask bench`.

/// Placeholder until written below.
pub fn run(_quick: bool, _customers: u64, _write_docs: bool) -> anyhow::Result<()> {
    anyhow::bail!("no")
}

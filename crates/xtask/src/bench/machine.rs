//! What a table was measured on.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// A list in Markdown; `databases` are their versions.
pub fn describe(directory: &Path, databases: &[String]) -> anyhow::Result<String> {
    let cpu = find("/proc/cpuinfo", "model name");
    let cores = std::thread::available_parallelism()?;
    let memory_kib: u64 = find("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (p50, p99) = sync_latency(directory)?;
    let mut lines = vec![
        format!("- processor: {cpu}, {cores} cores; the load generator and the databases run on the same cores"),
        format!("- memory: {} GiB; kernel: Linux {}", memory_kib / 1_048_576, kernel.trim()),
        format!(
            "- files: {}; appending 4 KiB and `fdatasync`: median {}, 99th percentile {} ms",
            file_system(directory),
            super::report::millis(p50),
            super::report::millis(p99)
        ),
    ];
    lines.push(format!("- databases: {}; every commit is on disk before it is answered", databases.join(", ")));
    Ok(lines.join("\n"))
}

fn find(path: &str, name: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
}

/// The kind of file system that a directory is on.
fn file_system(directory: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter(|fields| fields.get(1).is_some_and(|mount| directory.starts_with(mount)));
    let nearest = above.max_by_key(|fields| fields.get(1).map_or(0, |mount| mount.len()));
    nearest.and_then(|fields| fields.get(2).map(|kind| (*kind).to_owned())).unwrap_or_else(|| "unknown".to_owned())
}

/// How long a small write takes to reach the disk: median and 99th percentile in microseconds.
fn sync_latency(directory: &Path) -> anyhow::Result<(u64, u64)> {
    let path = directory.join("sync");
    let mut file = std::fs::File::create(&path)?;
    let mut taken = Vec::new();
    for _ in 0..300 {
        let begun = Instant::now();
        file.write_all(&[0x5A; 4_096])?;
        file.sync_data()?;
        taken.push(u64::try_from(begun.elapsed().as_micros())?);
    }
    std::fs::remove_file(path)?;
    taken.sort_unstable();
    let at = |place: usize| taken.get(place).copied().unwrap_or(0);
    Ok((at(150), at(297)))
}

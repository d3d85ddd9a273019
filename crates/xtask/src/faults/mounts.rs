//! Filesystems that are made, mounted and taken away again. They need root.

use crate::postgres::{install, is_root, run};
use anyhow::{Context, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A mounted filesystem; it is unmounted with its owner.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts an image file through a loop device.
    pub fn image(image: &Path, at: &Path, options: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(at)?;
        run(Command::new("mount").arg("-o").arg(format!("loop,{options}")).arg(image).arg(at))?;
        Ok(Mounted(at.to_owned()))
    }

    /// Mounts memory of this size.
    pub fn memory(at: &Path, megabytes: u64) -> anyhow::Result<Self> {
        needs_root()?;
        std::fs::create_dir_all(at)?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"]).arg(at))?;
        Ok(Mounted(at.to_owned()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The name of its device, such as `loop3`.
    pub fn device(&self) -> anyhow::Result<String> {
        let output = Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(&self.0).output()?;
        let source = String::from_utf8(output.stdout)?;
        Ok(source.trim().rsplit('/').next().context("no device")?.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whoever used it last may still be on the way out.
        for _ in 0..50 {
            if run(Command::new("umount").arg(&self.0)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        drop(run(Command::new("umount").arg("-l").arg(&self.0)));
    }
}

/// Makes an image file with a filesystem, `ext4` or `xfs`.
pub fn make_image(path: &Path, megabytes: u64, kind: &str) -> anyhow::Result<()> {
    needs_root()?;
    let program = format!("mkfs.{kind}");
    let known = Command::new(&program).arg("-V").output().is_ok();
    if !known {
        let package = if kind == "xfs" { "xfsprogs" } else { "e2fsprogs" };
        install(package, &format!("{program}, which power cuts and full disks need,"))?;
    }
    std::fs::File::create(path)?.set_len(megabytes * 1024 * 1024)?;
    let options: &[&str] = if kind == "xfs" { &["-q", "-f", "-m", "reflink=1"] } else { &["-q", "-F", "-m", "0"] };
    run(Command::new(program).args(options).arg(path))
}

fn needs_root() -> anyhow::Result<()> {
    ensure!(is_root(), "this needs mounts, and mounts need root; name the other faults to run them alone");
    Ok(())
}

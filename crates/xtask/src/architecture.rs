//! The direction in which the crates may look, and the licences of what they are made of: a rule that nothing checks is a
//! wish.

use anyhow::{Context, bail};
use serde_json::Value;
use std::process::Command;

/// What each crate of ours may depend on.
const MAY_USE: &[(&str, &[&str])] = &[
    ("cuenta", &["cuenta-engine", "cuenta-store", "cuenta-money"]),
    ("cuenta-engine", &["cuenta-store", "cuenta-money"]),
    ("cuenta-store", &[]),
    ("cuenta-money", &[]),
    ("xtask", &[]),
];

/// What the engine must not know: HTTP and async.
const NOT_IN_ENGINE: &[&str] = &["axum", "hyper", "tokio", "reqwest", "rusqlite", "tokio-postgres"];

/// Licences that a self-hosted program under Apache-2.0 may be built from.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "CDLA-Permissive-2.0",
    "0BSD",
];

/// Checks both, and says how many packages were looked at.
pub fn check() -> anyhow::Result<usize> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(crate::root())
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let mut faults = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        if package["source"].is_null() {
            faults.extend(directions(name, package));
        } else if !package["license"].as_str().is_some_and(is_allowed) {
            faults.push(format!("{name} has the licence {}", package["license"]));
        }
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    Ok(packages.len())
}

fn directions(name: &str, package: &Value) -> Vec<String> {
    let Some((_, allowed)) = MAY_USE.iter().find(|(known, _)| *known == name) else {
        return vec![format!("{name} is not in the list of crates: say what it may depend on")];
    };
    let used = package["dependencies"].as_array().into_iter().flatten();
    let used = used.filter(|used| used["kind"].is_null()).filter_map(|used| used["name"].as_str());
    let wrong = |used: &&str| {
        let ours = MAY_USE.iter().any(|(known, _)| known == used);
        ours && !allowed.contains(used) || name == "cuenta-engine" && NOT_IN_ENGINE.contains(used)
    };
    used.filter(wrong).map(|used| format!("{name} must not depend on {used}")).collect()
}

/// Whether at least one choice of an SPDX expression is allowed throughout.
fn is_allowed(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    plain.split(" OR ").any(|choice| choice.split(" AND ").all(|licence| LICENCES.contains(&licence.trim())))
}

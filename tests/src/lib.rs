//! Checks of the whole repository: what a compiler does not look at and a reviewer forgets.
//!
//! The checks themselves are in `tests/tidy`; this crate has what they look with.
//!
//! - [`repository`] the files of the working tree, and the binaries that were built from it
//! - [`source`] Rust text: what of it is code, where its functions begin and end
//! - [`markdown`] links and paths in documents
#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod markdown;
pub mod repository;
pub mod source;

/// Fails with every finding at once, so that one run shows all there is to mend.
///
/// # Panics
/// If there is a finding.
pub fn assert_none(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}\n  {}\n{} finding(s)", findings.join("\n  "), findings.len());
}

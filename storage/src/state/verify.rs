//! Reading an instance's files from the disk as they are now.
//!
//! A running instance keeps blocks in its cache, and indexes and footers from when it opened a file: what changed on the
//! disk since then it does not see before it is opened again. So a second instance, which shares nothing with the first
//! but the files, is opened over hard links to them and reads every block of every file. Footers have checksums
//! as well (format version 6), so that no byte of a file is left out. Where the file system can, the kernel's cache is
//! passed by, too.
//!
//! Unsafe code: the engine's C interface, for its Rust crate does not offer this call.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::null_mut;

use librocksdb_sys as ffi;

/// The engine's `RateLimiter::Mode::kReadsOnly` and `Env::IO_LOW`.
const READS_ONLY: i32 = 0;
const LOW: i32 = 0;
/// Its `HEADER_LEVEL`: nothing that happens is worth a line in a directory that is about to go.
const HEADERS_ONLY: i32 = 5;
/// How often the limiter hands out bytes, in microseconds, and how rarely it passes over the low ones.
const REFILL_US: i64 = 100_000;
const FAIRNESS: i32 = 10;

/// Reads every block of the instance in `dir`, at most so many bytes a second. An error is in the engine's words.
pub(super) fn read_all(dir: &Path, rate: Option<u64>) -> Result<(), String> {
    let instance = match Instance::open(dir, rate, true) {
        // Not every file system can read past the kernel's cache.
        Err(error) if error.starts_with("IO error") || error.starts_with("Invalid argument") => {
            Instance::open(dir, rate, false)?
        }
        opened => opened?,
    };
    instance.read_all()
}

/// An instance that is only read, with its options.
struct Instance {
    options: *mut ffi::rocksdb_options_t,
    db: *mut ffi::rocksdb_t,
}

impl Instance {
    fn open(dir: &Path, rate: Option<u64>, direct: bool) -> Result<Instance, String> {
        let name = CString::new(dir.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: the options are made here and freed once, by `drop`; the name lives until the call returns.
        unsafe {
            let options = ffi::rocksdb_options_create();
            let mut instance = Instance { options, db: null_mut() };
            ffi::rocksdb_options_set_use_direct_reads(options, direct.into());
            if let Some(rate) = rate {
                let rate = i64::try_from(rate).unwrap_or(i64::MAX);
                let limiter = ffi::rocksdb_ratelimiter_create_with_mode(rate, REFILL_US, FAIRNESS, READS_ONLY, false);
                ffi::rocksdb_options_set_ratelimiter(options, limiter);
                // The options hold it as well.
                ffi::rocksdb_ratelimiter_destroy(limiter);
            }
            ffi::rocksdb_options_set_info_log_level(options, HEADERS_ONLY);
            instance.db = checked(|error| ffi::rocksdb_open_for_read_only(options, name.as_ptr(), 0, error))?;
            Ok(instance)
        }
    }

    fn read_all(&self) -> Result<(), String> {
        // SAFETY: everything is made here and freed once after the call, which keeps nothing; `db` is open.
        unsafe {
            let options = ffi::rocksdb_readoptions_create();
            ffi::rocksdb_readoptions_set_fill_cache(options, 0);
            // Without a limiter it says nothing.
            ffi::rocksdb_readoptions_set_rate_limiter_priority(options, LOW);
            let read = checked(|error| ffi::rocksdb_verify_checksum_with_options(self.db, options, error));
            ffi::rocksdb_readoptions_destroy(options);
            read
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: nobody uses them any more, and the instance goes before its options.
        unsafe {
            if !self.db.is_null() {
                ffi::rocksdb_close(self.db);
            }
            ffi::rocksdb_options_destroy(self.options);
        }
    }
}

/// Runs a call that reports an error by a pointer to its text.
///
/// # Safety
/// The call writes there nothing, or a text that ends with a zero and is the caller's to free.
unsafe fn checked<T>(call: impl FnOnce(*mut *mut c_char) -> T) -> Result<T, String> {
    let mut error: *mut c_char = null_mut();
    let done = call(&mut error);
    if error.is_null() {
        return Ok(done);
    }
    // SAFETY: as the caller promises.
    unsafe {
        let text = CStr::from_ptr(error).to_string_lossy().into_owned();
        ffi::rocksdb_free(error.cast());
        Err(text)
    }
}

//! Checks of the whole repository; everything is in `tests/`.

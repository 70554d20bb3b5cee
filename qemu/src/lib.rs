//! Builds and drives the emulated machine.

//! Links the image at address zero, page-aligned segments, so that a loader can place it anywhere.

fn main() {
    println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
    println!("cargo::rustc-link-arg-bins=-zseparate-code");
    println!("cargo::rustc-link-arg-bins=--no-dynamic-linker");
    println!("cargo::rerun-if-changed=build.rs");
}

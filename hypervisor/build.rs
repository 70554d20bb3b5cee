//! Links the image at address zero, page-aligned segments, so that a loader can place it anywhere.

fn main() {
    println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
    println!("cargo::rustc-link-arg-bins=-zseparate-code");
    println!("cargo::rustc-link-arg-bins=--no-dynamic-linker");
    // A word of relocations for 63 words, not three for each.
    println!("cargo::rustc-link-arg-bins=--pack-dyn-relocs=relr");
    println!("cargo::rerun-if-changed=build.rs");
}

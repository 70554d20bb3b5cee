//! Links the Multiboot2 loader at a fixed address.

fn main() {
    println!("cargo::rerun-if-changed=multiboot.ld");
    println!("cargo::rerun-if-changed=build.rs");
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    for option in ["--no-pie", "-zmax-page-size=4096", "-znorelro"] {
        println!("cargo::rustc-link-arg-bin=multiboot={option}");
    }
    println!("cargo::rustc-link-arg-bin=multiboot=-T{folder}/multiboot.ld");
}

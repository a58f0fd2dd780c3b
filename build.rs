//! Links the shell at a fixed address: a position-independent image of this size has hundreds of
//! thousands of relocations, which every start would pay for.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("TARGET").is_ok_and(|target| target.contains("linux-gnu")) {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}

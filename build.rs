//! Tells the program whether the base model is there to be embedded: `cfg(nano_base)`.

fn main() {
    let base = "models/assets/nano-base/model.safetensors";
    println!("cargo::rustc-check-cfg=cfg(nano_base)");
    let is_there = std::path::Path::new(base).is_file();
    println!("cargo::rerun-if-changed={}", if is_there { base } else { "models" });
    if is_there {
        println!("cargo::rustc-cfg=nano_base");
    }
}

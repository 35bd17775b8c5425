//! Writes `../src/substrait.rs` and `../src/substrait.extensions.rs` from the definitions of the published crate.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = std::env::args().nth(1).ok_or("say where the folder `proto` of the unpacked crate is")?;
    let protos = PathBuf::from(protos);
    let files = definitions(&protos)?;
    prost_build::Config::new()
        .protoc_executable(protoc_bin_vendored::protoc_bin_path()?)
        .out_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../src"))
        .disable_comments(["."])
        .compile_well_known_types()
        .extern_path(".google.protobuf", "::pbjson_types")
        .compile_protos(&files, &[protos])?;
    Ok(())
}

/// In one order on every machine.
fn definitions(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(definitions(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

//! Compiles the protobuf of the ledger, of what it stores and what it is asked, with protox, so that no installed protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/ledger.proto", "proto/asked.proto"], ["proto"])?;
    prost_build::Config::new().btree_map(["."]).bytes(["."]).compile_fds(files)?;
    Ok(())
}

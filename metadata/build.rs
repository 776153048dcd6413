//! Compiles the protobuf of the RPC with protox, so that no installed protoc is needed. The ledger's messages are those of
//! the crate `lakefall-queue`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=../queue/proto");
    println!("cargo:rerun-if-changed=migrations");
    let files = protox::compile(["proto/metadata.proto"], ["proto", "../queue/proto"])?;
    tonic_prost_build::configure().bytes(".").extern_path(".lakefall.ledger.v1", "::lakefall_queue::ledger::proto").compile_fds(files)?;
    Ok(())
}

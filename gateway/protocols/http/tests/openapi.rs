//! The committed OpenAPI document is the one that the handlers make.

#[test]
fn the_committed_openapi_document_is_what_is_served() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/openapi.json");
    let made = lakefall_http::openapi_document();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == made, "docs/openapi.json is out of date: run UPDATE_OPENAPI=1 cargo test -p lakefall-http openapi");
    let document: serde_json::Value = serde_json::from_str(&made).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
}

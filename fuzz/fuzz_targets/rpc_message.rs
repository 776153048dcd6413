//! `rpc_message` under libFuzzer; what it promises is told where it is defined.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lakefall_libfuzzer::quiet(), |input: &[u8]| {
    lakefall_fuzz::targets::rpc_message(input);
});

//! What all executables share.

/// libFuzzer's binding ends the process at any panic, also those of libraries that a decoder catches, which are no defect. Without
/// its hook, only a panic that leaves the target ends it.
pub fn quiet() {
    drop(std::panic::take_hook());
}

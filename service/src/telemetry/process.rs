//! What the kernel knows of this process, as metrics.

use std::fmt::Write;

/// Appends it, under the names that Prometheus's client libraries use.
pub(super) fn process_metrics(text: &mut String) {
    let gauges = [
        ("process_resident_memory_bytes", resident_bytes(), "gauge"),
        ("process_open_fds", open_files(), "gauge"),
        ("process_cpu_seconds_total", cpu_seconds(), "counter"),
    ];
    for (name, value, kind) in gauges {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# TYPE {name} {kind}\n{name} {value}\n");
        }
    }
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kib| kib * 1024.0)
}

fn open_files() -> Option<f64> {
    std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64)
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // proc(5): after the name in parentheses, utime and stime are the 12th and 13th fields.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / rustix::param::clock_ticks_per_second() as f64)
}

//! Peak memory while loading: at most 1.15 times what the backend ends up holding.
//!
//! One test alone in its process, since the kernel keeps one peak a process.

mod support;

#[test]
#[cfg(target_os = "linux")]
fn loading_peaks_little_above_what_is_held() {
    let path = support::smollm2_path();
    // The backend and its libraries are there before the measurement.
    mlxterp::core::tensor::arange(0, 8, mlxterp::core::tensor::Dtype::Float32).unwrap().eval().unwrap();
    let before = status("VmRSS");
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let model = support::load(&path, &mlxterp::core::model::LoadOptions::default());
    let peak = status("VmHWM") - before;
    let held = model.info().bytes;
    let tokenizer = 40 << 20;
    println!("peak {} MB above the start, {} MB of weights held", peak >> 20, held >> 20);
    assert!(peak < held * 115 / 100 + tokenizer, "peak {peak}, held {held}");
    assert!(model.parameters().byte_size() > 500 << 20);
}

/// A line of /proc/self/status in bytes.
#[cfg(target_os = "linux")]
fn status(key: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|l| l.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

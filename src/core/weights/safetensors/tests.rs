use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::core::weights::testing::safetensors as file;
use crate::error::ErrorKind;

fn good() -> Vec<u8> {
    let header = json!({
        "__metadata__": {"format": "mlx"},
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]},
        "scalar": {"dtype": "I8", "shape": [], "data_offsets": [22, 23]},
        "none": {"dtype": "U8", "shape": [0, 7], "data_offsets": [22, 22]},
    });
    file(&header, &[7; 23])
}

/// The message of the error that `header` over `n` bytes of data must give.
fn refusal(header: Value, n: usize) -> String {
    let e = parse(&file(&header, &vec![0; n])).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
    e.to_string()
}

fn one(dtype: &str, shape: Value, offsets: Value) -> Value {
    json!({"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}})
}

#[test]
fn a_good_file_names_its_tensors() {
    let bytes = good();
    let entries = parse(&bytes).unwrap();
    assert_eq!(entries.keys().collect::<Vec<_>>(), ["a", "b", "none", "scalar"]);
    assert_eq!(entries["a"].shape, [2, 2]);
    assert_eq!(entries["b"].dtype, RawDtype::BF16);
    assert_eq!(bytes[entries["scalar"].range.clone()], [7]);
}

#[test]
fn header_length_is_not_believed() {
    let e = parse(b"tiny").unwrap_err();
    assert!(e.message().contains("4 bytes, too few"), "{e}");
    let mut huge = good();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(parse(&huge).unwrap_err().message().contains("not a safetensors file"));
    let mut long = good();
    long[..8].copy_from_slice(&5000u64.to_le_bytes());
    let e = parse(&long).unwrap_err();
    assert!(e.message().contains("claims 5000 bytes, but only"), "{e}");
    let mut short = good();
    short[..8].copy_from_slice(&20u64.to_le_bytes());
    assert!(parse(&short).unwrap_err().message().contains("not the JSON"));
}

#[test]
fn truncated_data_name_the_tensor() {
    let bytes = good();
    let e = parse(&bytes[..bytes.len() - 1]).unwrap_err();
    assert!(e.message().contains("tensor `scalar`") && e.message().contains("download complete"), "{e}");
    for n in 0..bytes.len() {
        assert!(parse(&bytes[..n]).is_err(), "a file cut to {n} bytes passed");
    }
}

#[test]
fn a_wrong_entry_says_what_is_wrong() {
    let cases = [
        (one("F99", json!([2]), json!([0, 8])), 8, "dtype `F99`"),
        (one("F32", json!([2]), json!([0, 4])), 8, "takes 8 bytes, but its `data_offsets` are [0, 4]"),
        (one("F32", json!([2]), json!([8, 0])), 8, "[8, 0]"),
        (one("F32", json!([2]), json!([0])), 8, "has 1 numbers"),
        (one("F32", json!([-2]), json!([0, 8])), 8, "`shape` is not a list"),
        (one("F32", json!([1.5]), json!([0, 8])), 8, "`shape` is not a list"),
        (one("F32", json!("x"), json!([0, 8])), 8, "`shape` is not a list"),
        (one("F32", json!([u64::MAX, 2]), json!([0, 8])), 8, "more bytes than this machine"),
        (one("U8", json!([u64::MAX - 7]), json!([7, u64::MAX])), 8, "reach behind"),
        (one("F32", json!([2]), json!([8, 16])), 16, "8 bytes between the header and tensor `w`"),
        (one("F32", json!([2]), json!([0, 8])), 16, "last 8 bytes of the file"),
        (json!({"w": {"dtype": "F32", "shape": [1]}}), 4, "no `data_offsets`"),
        (json!({"w": 3}), 4, "no `dtype`"),
        (json!([1, 2]), 4, "an object with one entry per tensor"),
    ];
    for (header, n, expected) in cases {
        let message = refusal(header.clone(), n);
        assert!(message.contains(expected), "{header} gave {message:?}");
    }
}

#[test]
fn overlap_and_repetition_are_refused() {
    let overlap = json!({
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
    });
    assert!(refusal(overlap, 12).contains("tensor `b` overlaps tensor `a`, which ends 4 bytes into it"));
    let entry = r#""w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    let header = format!("{{{entry},{entry}}}");
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0]].concat();
    assert!(parse(&bytes).unwrap_err().message().contains("`w` occurs twice"));
}

#[test]
fn a_header_nested_without_end_is_refused() {
    let header = "[".repeat(100_000);
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    assert_eq!(parse(&bytes).unwrap_err().kind(), ErrorKind::Corrupt);
    let header = format!("{{\"w\":{}", "[".repeat(100_000));
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    assert_eq!(parse(&bytes).unwrap_err().kind(), ErrorKind::Corrupt);
}

proptest! {
    /// Whatever is changed in a good file: an error or ranges inside the file, never a panic.
    #[test]
    fn mutations_never_panic(changes in prop::collection::vec((0usize..400, any::<u8>()), 1..8), cut in 0usize..400) {
        let mut bytes = good();
        for (at, byte) in changes {
            let n = bytes.len();
            bytes[at % n] = byte;
        }
        bytes.truncate(bytes.len().saturating_sub(cut / 8));
        if let Ok(entries) = parse(&bytes) {
            for e in entries.values() {
                prop_assert!(e.range.start <= e.range.end && e.range.end <= bytes.len());
            }
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }
}
